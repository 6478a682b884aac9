"""The attacks in a hostile project that real dbt runs as the tenant: as models, as hooks, and by where models go.

The project is the core project with the attacks beside its models, and without the check of the schemas, as if it had
come past every policy. Four runs of dbt, two at a time, serve all tests of this module.
"""

import gzip
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from kiket_worker.dbt.bundle import Bundle, core_bundle, shared_bundle
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.dbt.engine import Cancellation, Listener, Options, Outcome, SharedModels, Tenant
from kiket_worker.dbt.executable import ExecutableEngine
from kiket_worker.dbt.results import ModelResult
from kiket_worker.ledger.runs import Status
from tests.isolation.attacks import (
    NO_GATES,
    NO_LEDGER,
    NO_PUBLIC,
    NO_VICTIM,
    OWN,
    VICTIM,
    Attack,
    Refused,
    Shows,
    Way,
    forbidden,
)
from tests.isolation.every_attack import ATTACKS, of_way
from tests.isolation.siege import ATTACKER, Siege
from tests.support import warm_dbt
from tests.support.tenants import settings_of

_LEAVE_THE_SCHEMAS_ALONE = """
{% macro generate_schema_name(custom_schema_name=none, node=none) %}
    {{- shared_schema() if custom_schema_name == 'shared' else custom_schema_name or organization_schema() -}}
{% endmacro %}
"""
_CHECK_NOTHING = "{% macro check_schemas() %}{% endmacro %}"

# Models that go elsewhere, by how they are configured, and why the database refuses them.
ELSEWHERE = {
    "elsewhere_table": (f"materialized='table', schema='{VICTIM}'", NO_VICTIM),
    "elsewhere_view": (f"materialized='view', schema='{VICTIM}'", NO_VICTIM),
    "elsewhere_in_place": (f"materialized='table', schema='{VICTIM}', alias='dim_users'", NO_VICTIM),
    "elsewhere_replaced": (
        f"materialized='incremental', full_refresh=true, schema='{VICTIM}', alias='fct_throughput'",
        NO_VICTIM,
    ),
    "elsewhere_raw": ("materialized='table', schema='public'", NO_PUBLIC),
    "elsewhere_gate": ("materialized='view', schema='analytics_raw', alias='issues'", NO_GATES),
    "elsewhere_ledger": ("materialized='table', schema='kiket_analytics'", NO_LEDGER),
    "elsewhere_shared": (
        "materialized='table', schema='analytics_shared'",
        forbidden("permission denied for schema analytics_shared"),
    ),
}
# What the role of the shared models may not read, though it builds for all.
SHARED = {
    "shared_raw": ("select title from public.issues", NO_PUBLIC),
    "shared_gate": ("select title from analytics_raw.issues", forbidden("permission denied for view issues")),
    "shared_ledger": ("select run_id from kiket_analytics.runs", NO_LEDGER),
    "shared_tenant": (f"select * from {VICTIM}.stg_issues", NO_VICTIM),
    "shared_attacker": (f"select * from {OWN}.trojan", forbidden(f"permission denied for schema {OWN}")),
    "shared_identity": ("select set_config('role', 'kiket_ledger', false)", forbidden("permission denied to")),
}


@dataclass(frozen=True)
class Hostile:
    """What came of the four runs."""

    attacks: Outcome
    at_start: Outcome
    checked: Outcome
    shared: Outcome

    def model(self, name: str) -> ModelResult:
        return _model(self.attacks, name)


def _model(outcome: Outcome, name: str) -> ModelResult:
    return {model.model_id.rpartition(".")[2]: model for model in outcome.models}[name]


@pytest.fixture(scope="module")
def hostile(siege: Siege, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    for attack in ATTACKS:
        if Way.MODEL in attack.ways or Way.HOOK in attack.ways:
            siege.lay_trap(attack)
    folder = tmp_path_factory.mktemp("hostile")
    tenant = _tenant(siege)
    shared = siege.isolation.log_in_shared(siege.database, "analytics_shared", 0)
    jobs = {
        "attacks": (_attacks(folder / "attacks"), tenant, "path:models/attacks", "tag:shared"),
        "at_start": (_at_start(folder / "at_start"), tenant, "dim_users", "tag:shared"),
        "checked": (_checked(folder / "checked"), tenant, "stg_projects", "tag:shared"),
        "shared": (
            _shared(folder / "shared"),
            SharedModels("analytics_shared", shared.role, shared.password),
            "path:models/shared/attacks",
            "no_such_model",
        ),
    }
    with ThreadPoolExecutor(2) as pool:
        futures = {name: pool.submit(_run, siege, folder / f"run-{name}", *job) for name, job in jobs.items()}
        yield Hostile(**{name: future.result() for name, future in futures.items()})


def _tenant(siege: Siege) -> Tenant:
    login = siege.login(OWN)
    return Tenant(
        ATTACKER.organization_id,
        ATTACKER.slug,
        OWN,
        "analytics_shared",
        raw_schema="analytics_raw",
        ledger_schema="analytics_raw",
        user=login.role,
        password=login.password,
    )


def _run(
    siege: Siege, workdir: Path, bundle: Bundle, tenant: Tenant | SharedModels, selection: str, exclusion: str
) -> Outcome:
    workdir.mkdir()
    connection = DbtConnection.from_settings(settings_of(siege.ledger_url))
    engine = ExecutableEngine(warm_dbt.executable(), connection, time_limit_seconds=120)
    options = Options(workdir, f"kiket-run-{workdir.name}", selection=(selection,), exclusion=(exclusion,))
    return engine.run(bundle, tenant, options, Listener(), Cancellation())


def _project(folder: Path, *, checked: bool) -> Path:
    """A copy of the core project that builds models wherever their configuration says."""
    shutil.copytree(core_bundle().project_dir, folder, ignore=shutil.ignore_patterns("target", "logs"))
    schemas = folder / "macros" / "schemas.sql"
    text = schemas.read_text().replace("macro generate_schema_name", "macro schema_name_as_it_should_be")
    if not checked:
        text = text.replace("macro check_schemas", "macro check_schemas_as_it_should_be") + _CHECK_NOTHING
    schemas.write_text(text + _LEAVE_THE_SCHEMAS_ALONE)
    return folder


def _attacks(folder: Path) -> Bundle:
    models = _project(folder, checked=False) / "models" / "attacks"
    models.mkdir()
    for number, attack in enumerate(ATTACKS):
        if Way.MODEL in attack.ways:
            (models / f"model_{attack.name}.sql").write_text(
                f"{{{{ config(materialized='table') }}}}\nselect * from (\n{attack.statements[-1]}\n) as attack"
            )
        if Way.HOOK in attack.ways:
            when = ("pre_hook", "post_hook")[number % 2]
            (models / f"hook_{attack.name}.sql").write_text(
                f"{{% set attack %}}{';'.join(attack.statements)}{{% endset %}}\n"
                f"{{{{ config(materialized='table', {when}=attack) }}}}\nselect 1 as one"
            )
    for name, (configuration, _) in ELSEWHERE.items():
        (models / f"{name}.sql").write_text(f"{{{{ config({configuration}) }}}}\nselect 1 as one")
    _add_hook(folder, "on-run-end", "delete from analytics_org_blue_harbor.dim_users")
    return Bundle(folder)


def _at_start(folder: Path) -> Bundle:
    _add_hook(_project(folder, checked=False), "on-run-start", "delete from analytics_org_blue_harbor.dim_users")
    return Bundle(folder)


def _checked(folder: Path) -> Bundle:
    models = _project(folder, checked=True) / "models"
    (models / "elsewhere.sql").write_text(f"{{{{ config(schema='{VICTIM}', materialized='table') }}}}\nselect 1 as one")
    return Bundle(folder)


def _shared(folder: Path) -> Bundle:
    shared_bundle(core_bundle()).laid_out(folder)
    models = folder / "models" / "shared" / "attacks"
    models.mkdir()
    for name, (query, _) in SHARED.items():
        (models / f"{name}.sql").write_text(
            f"{{{{ config(contract={{'enforced': false}}) }}}}\nselect * from ({query}) as attack"
        )
    return Bundle(folder)


def _add_hook(project: Path, when: str, statement: str) -> None:
    file = project / "dbt_project.yml"
    text = file.read_text()
    assert 'on-run-start: "{{ check_schemas() }}"' in text
    file.write_text(text.replace('on-run-start: "{{ check_schemas() }}"', f'{when}: "{statement}"'))


@pytest.mark.parametrize("attack", of_way(Way.MODEL))
def test_as_a_model(siege: Siege, hostile: Hostile, attack: Attack) -> None:
    result = hostile.model(f"model_{attack.name}")
    expected = attack.expected_in(Way.MODEL)
    if isinstance(expected, Refused):
        assert result.status == "error"
        assert expected.words in (result.message or "")
    else:
        assert (result.status, result.message) == ("success", None)
        assert isinstance(expected, Shows)
        with siege.connect(OWN) as connection:
            rows = connection.execute(f"select * from model_{attack.name}".encode()).fetchall()
        assert tuple(rows) == expected.rows


@pytest.mark.parametrize("attack", of_way(Way.HOOK))
def test_as_a_hook(hostile: Hostile, attack: Attack) -> None:
    result = hostile.model(f"hook_{attack.name}")
    expected = attack.expected_in(Way.HOOK)
    assert isinstance(expected, Refused), "what is allowed says nothing as a hook"
    assert result.status == "error"
    assert expected.words in (result.message or "")


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_model_that_goes_elsewhere_is_refused_by_the_database(hostile: Hostile, name: str) -> None:
    result = hostile.model(name)
    assert result.status == "error"
    assert ELSEWHERE[name][1].words in (result.message or "")


def test_the_engine_says_by_name_that_models_went_elsewhere(hostile: Hostile) -> None:
    assert hostile.attacks.failure is not None
    assert hostile.attacks.failure.kind == "schema_forbidden"
    assert VICTIM in str(hostile.attacks.failure)


def test_with_the_check_in_place_dbt_builds_nothing_at_all(hostile: Hostile) -> None:
    assert hostile.checked.failure is not None
    assert hostile.checked.failure.kind == "schema_forbidden"
    assert f"elsewhere in {VICTIM}" in str(hostile.checked.failure)
    assert [model for model in hostile.checked.models if model.status != "skipped"] == []


def test_a_hook_at_the_start_is_refused_and_ends_the_run(hostile: Hostile) -> None:
    assert hostile.at_start.failure is not None
    assert NO_VICTIM.words in hostile.at_start.files["dbt.log"].read_text()
    assert [model for model in hostile.at_start.models if model.status == "success"] == []


def test_a_hook_at_the_end_is_refused(hostile: Hostile) -> None:
    results = json.loads(hostile.attacks.files["run_results.json"].read_bytes())["results"]
    (hook,) = [entry for entry in results if entry["unique_id"].startswith("operation.")]
    assert hook["status"] == "error"
    assert NO_VICTIM.words in hook["message"]


@pytest.mark.parametrize("name", SHARED)
def test_a_shared_model_sees_no_organisations_rows(hostile: Hostile, name: str) -> None:
    result = _model(hostile.shared, name)
    assert result.status == "error"
    assert SHARED[name][1].words in (result.message or "")


def test_after_all_of_it_the_victim_is_unharmed_and_the_attacker_can_be_refreshed(
    siege: Siege, hostile: Hostile
) -> None:
    siege.assert_unharmed()
    siege.mend()


def test_after_all_of_it_the_documentation_of_the_attacker_names_nobody_else(siege: Siege, hostile: Hostile) -> None:
    siege.rescue()
    for attack in ATTACKS:
        siege.lay_trap(attack)
    run = siege.refresh("acme", docs=True)
    siege.remember()
    assert (run.status, run.error_message) == (Status.SUCCEEDED, None)
    catalog = json.loads(gzip.decompress(siege.artifact(run, "catalog.json")))
    relations = catalog["nodes"] | catalog["sources"]
    assert {relation["metadata"]["schema"] for relation in relations.values()} == {
        *(OWN, "analytics_raw", "analytics_shared"),
    }
    assert VICTIM not in json.dumps(catalog)


def test_after_all_of_it_the_victim_is_refreshed_with_its_own_rows(siege: Siege, hostile: Hostile) -> None:
    run = siege.refresh("blue-harbor")
    siege.remember()
    assert (run.status, run.error_message) == (Status.SUCCEEDED, None)
    with siege.connect(VICTIM) as victim:
        built = victim.execute(
            "select (select count(*) from stg_issues), (select sum(issues_completed) from fct_throughput),"
            " (select array_agg(user_id order by user_id) from dim_users)"
        ).fetchone()
    expected = siege.admin.execute(
        "select count(*) as issues,"
        " count(*) filter (where status = 'done' and issue_type <> 'epic' and completed_at is not null) as done,"
        " (select array_agg(id order by id) from users where organization_id = 2) as users"
        " from issues where organization_id = 2"
    ).fetchone()
    assert expected is not None
    assert built == tuple(expected.values())
