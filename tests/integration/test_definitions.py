"""Validating definition repositories: what Postgres and dbt say of them, and what a stranger cannot do by one."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kiket_worker.cli.ticker import _sweep
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.dbt.overlay import Kind, kind_of
from kiket_worker.definitions import rules
from kiket_worker.definitions.policy.names import KEYWORDS
from kiket_worker.definitions.problem import Severity
from kiket_worker.definitions.trial.trial import Trials
from kiket_worker.definitions.validation import Validation, validate
from kiket_worker.errors import UsageError
from kiket_worker.ledger.database import Database
from tests.support.definitions import EXAMPLES, all_examples, repository, trials_of
from tests.support.installations import Installation, catalogs
from tests.support.tenants import isolation_of, settings_of

MODELS = "analytics/dbt/models/"
# Their examples would be many or large files; tests of their own make these.
ELSEWHERE = {rules.REPOSITORY_SIZE, rules.FILE_KIND, rules.FILE_SIZE, rules.SQL_SIZE, rules.PARSE_LIMIT}


def validated(folder: Path, trials: Trials) -> Validation:
    return validate(folder, trials, name="main", others={})


def told(found: Validation) -> set[tuple[str, int, str]]:
    return {(Path(problem.file).name, problem.line, problem.rule) for problem in found.problems}


def about(files: Collection[str], found: Validation) -> Validation:
    """What was found, with no problems but those of these files."""
    return replace(found, problems=tuple(problem for problem in found.problems if problem.file in files))


@pytest.fixture(scope="module")
def module_trials(sample_databases: Any) -> Iterator[Trials]:
    """For what is tried once for several tests: a trial takes seconds, however little is tried."""
    with Installation.of(sample_databases[0]) as installation:
        yield trials_of(installation)


def validated_together(folder: Path, trials: Trials, *parts: Mapping[str, str]) -> Validation:
    """Files of several tests in one repository, each of which looks at its own: no problem is of none of them."""
    files = {path: text for part in parts for path, text in part.items()}
    assert len(files) == sum(map(len, parts))
    found = validated(repository(folder, files), trials)
    assert {problem.file for problem in found.problems} <= files.keys()
    return found


@pytest.fixture(scope="module")
def wrong(module_trials: Trials, tmp_path_factory: pytest.TempPathFactory) -> Validation:
    """What is told of files with errors that have nothing to do with each other."""
    return validated_together(
        tmp_path_factory.mktemp("wrong"),
        module_trials,
        *(JINJA, YAML, CONFIGURED, ON_A_BAD_FILE, INCREMENTAL, TESTED, STATEMENTS),
    )


@pytest.fixture(scope="module")
def warned_of(module_trials: Trials, tmp_path_factory: pytest.TempPathFactory) -> Validation:
    """What is told of files without errors."""
    return validated_together(tmp_path_factory.mktemp("warned-of"), module_trials, WARNED_OF, UNFILTERED)


@pytest.fixture(scope="module")
def right(module_trials: Trials, tmp_path_factory: pytest.TempPathFactory) -> Validation:
    """What is told of every rule's right example and of the repository with every root, which are one here."""
    folder = all_examples("right", tmp_path_factory.mktemp("right"))
    assert not any((folder / path).exists() for path in files_of(EXAMPLES / "valid"))
    shutil.copytree(EXAMPLES / "valid", folder, dirs_exist_ok=True)
    exposures = folder / "analytics/dbt/exposures/boards.yml"
    # One of the examples has an exposure of the same name.
    exposures.write_text(exposures.read_text().replace("team_board", "boards"))
    return validated(folder, module_trials)


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_all_problems_are_told_at_once(trials: Trials, installation: Any, tmp_path: Path) -> None:
    before = catalogs(installation.database)

    found = validated(all_examples("wrong", tmp_path), trials)

    missing = {rule.name for rule in rules.RULES if rule not in ELSEWHERE} - {p.rule for p in found.problems}
    assert missing == set()
    assert {("misspelt.sql", 3, "database"), ("deletes.sql", 2, "sql-select"), ("raises.sql", 1, "dbt")} <= told(found)
    assert ("reads_files.sql", 1, "sql-function") in told(found)
    assert list(found.problems) == sorted(found.problems)
    # Nothing is left of the trial.
    assert catalogs(installation.database) == before


def test_every_file_of_a_hostile_repository_is_refused_and_nothing_is_changed(
    trials: Trials, installation: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "hostile"
    shutil.copytree(EXAMPLES / "hostile", folder)
    (folder / MODELS / "link.sql").symlink_to("/etc/passwd")
    (folder / MODELS / "models").symlink_to("/")
    before = catalogs(installation.database)
    counted = "select (select count(*) from public.users) as users, (select count(*) from kiket_analytics.runs) as runs"
    rows = installation.rows(counted)

    found = validated(folder, trials)

    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() or path.is_symlink()}
    assert {problem.file for problem in found.problems if problem.severity is Severity.ERROR} == files
    # What a file of the machine has in it is told to nobody.
    assert not any("root:" in problem.message for problem in found.problems)
    assert (catalogs(installation.database), installation.rows(counted)) == (before, rows)
    assert not Path("/tmp/owned").exists()


LOOKING_AT_THE_TENANT = {
    "slug": "{{ 1 if var('organization_slug') == 'acme' else 2 }}",
    "schema": "{{ 1 if 'acme' in target.schema else 2 }}",
    # Equal in the trial, and for no organisation.
    "shared": "{{ 1 if var('shared_schema') == target.schema else 2 }}",
    "raw": "{{ 1 if var('raw_schema') == 'analytics_raw' else 2 }}",
    "role": "{{ target.user | length }}",
    "time": "{{ run_started_at.year }}",
    "run": "{{ 1 if invocation_id > 'a' else 2 }}",
    "relation": "{{ 1 if ref('fct_throughput').schema == 'a' else 2 }}",
    "nested": "{{ 1 if [[[[[[[[target.schema]]]]]]]] == [[[[[[[['x']]]]]]]] else 2 }}",
    "identity": "{{ var('organization_id') % 7 }}",
}


JINJA = {
    **{f"{MODELS}{name}.sql": f"select {text} as x" for name, text in LOOKING_AT_THE_TENANT.items()},
    MODELS + "by_macro.sql": "select {{ letters_of(this) }} as x",
    "analytics/dbt/macros/letters.sql": "{% macro letters_of(it) %}{{ (it ~ '') | length }}{% endmacro %}",
    MODELS + "prints.sql": """select '{{ target.schema }}' as a, '{{ run_started_at }}' as b, '{{ this }}' as c,
        {{ var('organization_id') }} as d, '{{ invocation_id }}' as e, '{{ var('organization_slug') ~ '!' }}' as f
        from {{ ref('fct_throughput') }} where {{ tenant_filter('project_id') }}""",
}


def test_jinja_prints_the_tenant_and_the_time_and_looks_at_neither(wrong: Validation) -> None:
    found = about(JINJA, wrong)

    assert told(found) == {(f"{name}.sql", 1, "jinja-tenant") for name in [*LOOKING_AT_THE_TENANT, "letters"]}


ELSEWHERE_FOR_SOME = "{{ 'public' if target.schema == 'analytics_org_acme' else var('organization_schema') }}"
YAML = {
    MODELS + "sources.yml": f'sources: [{{name: crm, schema: "{ELSEWHERE_FOR_SOME}", tables: [{{name: deals}}]}}]\n'
}


def test_yaml_that_looks_at_the_tenant_is_told_in_its_file(wrong: Validation) -> None:
    found = about(YAML, wrong)

    assert told(found) == {("sources.yml", 1, "jinja-tenant")}


CONFIGURED = {
    MODELS + "configured.sql": """{{ config(materialized='incremental', unique_key='a' ~ ('%c' % 59) ~ ' drop table x',
    incremental_predicates=["true) or exists (select 1 from public.users"],
    indexes=[{'columns': ['a); drop table x; --']}]) }}
select 1 as a, 2 as "b"" int); drop table x; --"
""",
    MODELS + "described.sql": "select 1 as a, 2 as b",
    MODELS + "described.yml": """models:
  - name: described
    config: {contract: {enforced: true}}
    columns:
      - name: a
        data_type: int); drop table x; --
        constraints: [{type: check, expression: "true); drop table x; --"}]
      - name: b); drop table x; --
        data_type: int
        data_tests:
          - not_null: {config: {where: "true) or (pg_sleep(1) is null", error_if: "> (select 1)", fail_calc: "1; drop"}}
unit_tests:
  - name: replaced
    model: described
    overrides: {macros: {current_day: "now()); drop table x; --"}}
    given: []
    expect: {rows: [{a: 1}]}
""",
    "analytics/dbt/seeds/sizes.csv": "points\n1\n",
    "analytics/dbt/seeds/sizes.yml": """seeds:
  - name: sizes
    config: {column_types: {points: "int); drop table x; --"}}
    columns:
      - name: points
        data_tests: [{not_null: {config: {where: "1;"}}}]
""",
}


def test_what_dbt_writes_into_statements_of_its_own_is_judged(wrong: Validation) -> None:
    found = about(CONFIGURED, wrong)

    words = {(Path(problem.file).name, problem.message.partition(":")[0]) for problem in found.problems}
    assert words >= {
        *(("configured.sql", key) for key in ("unique_key", "incremental_predicates", "indexes")),
        *(("described.yml", key) for key in ("data_type", "constraints", "columns", "where", "error_if", "fail_calc")),
        ("described.yml", "overrides"),
        *(("sizes.yml", key) for key in ("column_types", "where")),
    }


BOARD = (EXAMPLES / "rules/widget-model/right/.kiket/analytics/dashboards/team.yaml").read_text()
ON_A_BAD_FILE = {
    MODELS + "bad.sql": "select {{ env_var('HOME') }} as home, 1 as project_id",
    MODELS + "below.sql": "select project_id from {{ ref('bad') }}",
    MODELS + "below.yml": "models:\n  - name: below\n    columns:\n      - name: project_id\n"
    "        data_tests: [not_null]\n",
    "analytics/dbt/tests/of_below.sql": "select * from {{ ref('below') }} where project_id is null",
    ".kiket/analytics/dashboards/team.yaml": BOARD.replace("fct_throughput", "below"),
}


def test_of_what_is_built_on_a_bad_file_nothing_is_told(wrong: Validation) -> None:
    found = about(ON_A_BAD_FILE, wrong)

    assert told(found) == {("bad.sql", 1, "jinja-forbidden")}


def test_what_stops_its_reader_is_told_by_itself_and_hides_nothing(trials: Trials, tmp_path: Path) -> None:
    files = {
        MODELS + "number.sql": "select 1,\n{{ " + "9" * 5_000 + " }} as n",
        MODELS + "power.sql": "select 1 as a,\n{{ 10 ** 5000 }} as n",
        MODELS + "surrogate.sql": "select\n'{{ '\\ud800' }}' as text",
        MODELS + "blocks.sql": "{% materialization x, foo=bar %}{% endmaterialization %}",
        MODELS + "named.sql": "select * from {{ ref(model_name='dim_projects') }}",
        MODELS + "hexadecimal.yml": "models:\n  - name: beside\n    meta: {a: 0x" + "f" * 20_000 + "}",
        MODELS + "shaped.yml": "exposures:\n  - name: e\n    type: dashboard\n    maturity: high\n"
        "    owner: {name: us}\n    depends_on: [{a: b}]",
        MODELS
        + "executed.sql": "select 1 as one\n{% if execute %}{{ exceptions.raise_compiler_error('no') }}{% endif %}",
        MODELS + "below.sql": "select one from {{ ref('executed') }}",
        MODELS + "beside.sql": "select 1 as one,\n  no_such_column from {{ ref('dim_projects') }}",
    }

    found = validated(repository(tmp_path, files), trials)

    assert told(found) == {
        ("number.sql", 2, "jinja-syntax"),
        ("power.sql", 1, "dbt"),
        ("surrogate.sql", 1, "dbt"),
        ("executed.sql", 1, "dbt"),
        ("blocks.sql", 1, "jinja-syntax"),
        ("named.sql", 1, "ref-missing"),
        ("hexadecimal.yml", 3, "yaml-syntax"),
        ("shaped.yml", 6, "exposure"),
        ("beside.sql", 2, "database"),
    }


def test_what_is_right_has_no_problem(right: Validation) -> None:
    assert right.problems == ()
    assert right.is_valid


def test_every_root_of_a_repository_is_read_and_built(right: Validation) -> None:
    read = right.overlay.files.keys() & files_of(EXAMPLES / "valid")

    assert right.problems == ()
    assert {kind_of(path) for path in read} == set(Kind)
    assert not any(path.startswith(("src/", "README")) for path in right.overlay.files)


INCREMENTAL = {
    MODELS + "later.sql": """{{ config(materialized='incremental', unique_key='project_id') }}
select project_id from {{ ref('fct_throughput') }}
{% if is_incremental() %}
where no_such_column > 1
{% endif %}
""",
    MODELS + "hidden.sql": """{{ config(materialized='incremental') }}
select 1 as one{% if is_incremental() %}, pg_sleep(1)::text as slept{% endif %}
""",
}


def test_an_incremental_model_is_tried_as_it_is_the_second_time_too(wrong: Validation) -> None:
    found = about(INCREMENTAL, wrong)

    assert told(found) == {("later.sql", 4, "database"), ("hidden.sql", 2, "sql-function")}


TESTED = {
    MODELS + "summed.sql": "select project_id from {{ ref('fct_throughput') }}",
    MODELS + "summed.yml": "models:\n  - name: summed\n    columns:\n      - name: project\n"
    "        data_tests: [not_null]\n",
    # It does not hold over no rows, which says nothing.
    "analytics/dbt/tests/has_rows.sql": "select 1 as one where not exists (select from {{ ref('summed') }})",
}


def test_tests_of_models_are_read_by_postgres_too(wrong: Validation) -> None:
    found = about(TESTED, wrong)

    assert [(Path(problem.file).name, problem.rule) for problem in found.problems] == [("summed.yml", "database")]
    assert 'column "project" does not exist' in found.problems[0].message


def test_a_repository_without_analytics_is_valid_and_empty(trials: Trials, tmp_path: Path) -> None:
    found = validated(repository(tmp_path, {"README.md": "Nothing here."}), trials)

    assert (found.problems, found.overlay.files, found.is_valid) == ((), {}, True)


def test_a_path_that_is_no_folder_is_wrong_use(trials: Trials, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        validated(tmp_path / "nowhere", trials)


def test_jinja_that_does_not_end_is_ended(installation: Any, tmp_path: Path) -> None:
    loop = "{% for i in range(99999) %}" * 4 + "{% endfor %}" * 4
    files = {MODELS + "loops.sql": loop + "select 1 as one", MODELS + "other.sql": "select * from {{ ref('nobody') }}"}

    found = validated(repository(tmp_path, files), trials_of(installation, time_limit_seconds=6))

    assert told(found) == {("loops.sql", 1, "parse-limit"), ("other.sql", 1, "ref-missing")}
    assert "more than 6 seconds" in found.problems[0].message
    assert installation.rows("select from pg_roles where rolname like '%%trial%%'") == []


def test_jinja_that_takes_all_memory_is_refused(trials: Trials, tmp_path: Path) -> None:
    text = "{% set x = 'a' * 1000000000 %}{% set y = x ~ x ~ x %}select {{ y | length }} as n"

    found = validated(repository(tmp_path, {MODELS + "greedy.sql": text}), trials)

    assert told(found) == {("greedy.sql", 1, "parse-limit")}


MORE_THAN_COMPUTING = {
    "drops": ("select 1 as one; drop table dim_projects", "sql-select"),
    "reads": ("select * from public.users", "sql-table"),
    "copies": ("copy dim_projects to '/tmp/x'", "sql-select"),
    "becomes": ("select set_config('role', 'postgres', false) as x", "sql-function"),
    "connects": ("select * from dblink('dbname=x', 'select 1') as t(a int)", "sql-function"),
}
STATEMENTS = {f"{MODELS}{name}.sql": sql for name, (sql, _) in MORE_THAN_COMPUTING.items()}


def test_sql_that_does_more_than_compute_is_refused_before_it_is_run(wrong: Validation) -> None:
    found = about(STATEMENTS, wrong)

    # Postgres was not asked: it would have said something of its own.
    assert {(Path(problem.file).stem, problem.rule) for problem in found.problems} == {
        (name, rule) for name, (_, rule) in MORE_THAN_COMPUTING.items()
    }


def test_the_trials_of_the_killed_are_removed_later_and_those_that_go_on_are_not(
    trials: Trials, installation: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = repository(tmp_path / "repository", {MODELS + "one.sql": "select 1 as one"})
    code = """
import os, signal, sys
from pathlib import Path
from kiket_worker.definitions.trial.trial import Trials
from kiket_worker.definitions.validation import validate
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.ledger.database import Database
from tests.support.tenants import isolation_of, settings_of
url = sys.argv[1]
Trials._run = lambda *given: os.kill(os.getpid(), signal.SIGKILL)
trials = Trials(Database(url), isolation_of(url), DbtConnection.from_settings(settings_of(url)), time_limit_seconds=9)
validate(Path(sys.argv[2]), trials, name="main", others={})
"""
    died = subprocess.run(
        [sys.executable, "-c", code, installation.ledger_url, str(folder)],
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )
    assert died.returncode == -signal.SIGKILL
    left = "select rolname from pg_roles where rolname like 'analytics_org_trial_%%'"
    assert len(installation.rows(left)) == 1

    validated(folder, trials)
    assert len(installation.rows(left)) == 1  # It could still go on.

    monkeypatch.setattr("kiket_worker.definitions.trial.left.LEFT_AFTER_SECONDS", -1)
    # As each tick does.
    _sweep(settings_of(installation.ledger_url), installation.ledger)()
    assert installation.rows(left) == []
    assert installation.rows("select from pg_namespace where nspname like 'analytics_org_trial_%%'") == []


WARNED_OF = {MODELS + "unfiltered.sql": "select id\r\nfrom {{ source('raw', 'issues') }}\r\n"}


def test_warnings_do_not_keep_a_repository_from_being_published(warned_of: Validation) -> None:
    found = about(WARNED_OF, warned_of)

    assert {(problem.rule, problem.severity) for problem in found.problems} == {
        ("file-line-ends", Severity.WARNING),
        ("tenancy-filter", Severity.WARNING),
    }
    assert warned_of.is_valid


UNFILTERED = {
    MODELS + "commented.sql": "-- organization_id\nselect id, organization_id\nfrom {{ source('raw', 'issues') }}",
    MODELS + "built.sql": "select id from\n{{ var('raw_schema') }}.issues",
    MODELS + "own.yml": "sources:\n  - name: mine\n    schema: \"{{ var('raw_schema') }}\"\n"
    "    tables:\n      - name: issues",
    MODELS + "aliased.sql": "select id from {{ source('mine', 'issues') }} as organization_id",
    MODELS + "filtered.sql": "select id from {{ source('raw', 'organizations') }} where {{ tenant_filter('id') }}",
    MODELS + "staged.sql": "select issue_id from {{ ref('stg_issues') }}",
}


def test_a_raw_table_without_a_filter_is_told_however_it_is_named(warned_of: Validation) -> None:
    found = about(UNFILTERED, warned_of)

    assert told(found) == {
        ("commented.sql", 3, "tenancy-filter"),
        ("built.sql", 2, "tenancy-filter"),
        ("aliased.sql", 1, "tenancy-filter"),
    }


def test_where_one_role_is_shared_a_trial_sees_no_rows_and_leaves_nothing(
    sample_database: Any, ledger: Database, tmp_path: Path
) -> None:
    # Would fail on any row, of whoever: it reads a raw table without a filter.
    text = "select 1 / (id - id) as none\nfrom {{ source('raw', 'issues') }} as issue\nwhere issue.id is not null"
    url = sample_database.url
    trials = Trials(
        ledger,
        isolation_of(url, KIKET_ISOLATION="shared", KIKET_TENANT_KEYS=None),
        DbtConnection.from_settings(settings_of(url, KIKET_ISOLATION="shared", KIKET_TENANT_KEYS=None)),
        time_limit_seconds=300,
    )
    schemas = "select nspname from pg_namespace order by 1"
    before = sample_database.rows(schemas)
    table = "{{ config(materialized='table') }}\n"

    found = validated(repository(tmp_path, {MODELS + "unfiltered.sql": table + text}), trials)

    assert [problem.rule for problem in found.problems] == ["tenancy-filter"]
    assert sample_database.rows(schemas) == before


def test_the_keywords_are_those_of_postgres(sample_database: Any) -> None:
    query = "select word from pg_get_keywords() where catcode in ('R', 'T')"

    # Those of the category T can be tables, but not everywhere without quotes.
    assert {row["word"] for row in sample_database.rows(query)} == KEYWORDS
