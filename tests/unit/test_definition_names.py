"""Names of models, references between them, and the YAML that describes them."""

from kiket_worker.dbt.bundle import core_bundle
from kiket_worker.dbt.overlay import Overlay
from kiket_worker.definitions.policy.core import Known
from kiket_worker.definitions.policy.examination import examine_overlay
from kiket_worker.definitions.policy.names import MOST_CHARACTERS, MOST_MODELS
from kiket_worker.definitions.problem import Problem

MODELS = "analytics/dbt/models/"


def examined(files: dict[str, str], others: dict[str, Overlay] | None = None) -> list[Problem]:
    known = Known.of(core_bundle().project_dir, others or {})
    return sorted(examine_overlay(Overlay({MODELS + name: text for name, text in files.items()}), known).problems)


def told(files: dict[str, str], others: dict[str, Overlay] | None = None) -> list[tuple[str, int, str]]:
    return [(found.file.removeprefix(MODELS), found.line, found.rule) for found in examined(files, others)]


def test_what_another_overlay_of_the_organisation_has_can_be_used_and_not_replaced() -> None:
    other = {
        "crm": Overlay(
            {MODELS + "deals.sql": "select 1", "analytics/dbt/macros/a.sql": "{% macro eur(x) %}{% endmacro %}"}
        )
    }

    assert told({"sums.sql": "select {{ eur('x') }} from {{ ref('deals') }}"}, other) == []
    assert told({"deals.sql": "select 1"}, other) == [("deals.sql", 1, "core-override")]


def test_names_have_room_for_what_dbt_adds() -> None:
    assert told({"a" * MOST_CHARACTERS + ".sql": "select 1"}) == []
    assert [rule for _, _, rule in told({"a" * (MOST_CHARACTERS + 1) + ".sql": "select 1"})] == ["model-name"]


def test_there_are_only_so_many_models() -> None:
    files = {f"model_{number}.sql": "select 1" for number in range(MOST_MODELS + 1)}

    assert told(files) == [("", 1, "repository-size")]


def test_each_circle_is_told_once_however_long() -> None:
    files = {f"m{number}.sql": f"select * from {{{{ ref('m{(number + 1) % 50}') }}}}" for number in range(50)}

    (problem,) = examined(files | {"self.sql": "select * from {{ ref('self') }}"})[1:]

    assert problem.rule == "ref-cycle"
    assert problem.message.endswith("self → self")


def test_a_circle_behind_a_long_way_does_not_use_up_the_stack() -> None:
    files = {f"m{number}.sql": f"select * from {{{{ ref('m{number + 1}') }}}}" for number in range(3000)}

    assert told(files | {"m3000.sql": "select * from {{ ref('m0') }}"})[-1][2] == "ref-cycle"


def test_near_names_are_offered() -> None:
    (problem,) = examined({"a.sql": "select 1 from\n{{ ref('fct_cycletime') }}"})

    assert (problem.line, problem.hint) == (2, "Did you mean 'fct_cycle_time'?")


def test_what_is_built_on_a_bad_file_is_found() -> None:
    files = {
        "bad.sql": "select 1 from {{ ref('nobody') }}",
        "below.sql": "select 1 from {{ ref('bad') }}",
        "far_below.sql": "select 1 from {{ ref('below') }}",
        "beside.sql": "select 1 as one",
    }
    known = Known.of(core_bundle().project_dir, {})
    examination = examine_overlay(Overlay({MODELS + name: text for name, text in files.items()}), known)

    assert examination.with_dependents([MODELS + "bad.sql"]) == {
        MODELS + name for name in ("bad.sql", "below.sql", "far_below.sql")
    }


def test_yaml_may_not_describe_what_the_core_project_has() -> None:
    text = """models:
  - name: fct_throughput
    config: {materialized: view}
sources:
  - name: raw
    schema: public
    tables:
      - name: issues
"""
    assert told({"own.yml": text}) == [("own.yml", 2, "core-override"), ("own.yml", 8, "core-override")]


def test_yaml_may_not_bring_statements_along() -> None:
    text = """models:
  - name: a
    description: Text; with a semicolon.
    config:
      post-hook: drop table x
    columns:
      - name: x
        data_tests:
          - accepted_values:
              arguments:
                values: ["{{ run_query('select 1') }}"]
"""
    assert told({"a.yml": text, "a.sql": "select 1 as x"}) == [
        ("a.yml", 5, "hook"),
        ("a.yml", 11, "jinja-forbidden"),
    ]


def test_configuration_of_tests_is_judged_wherever_it_stands() -> None:
    text = """models:
  - name: a
    columns:
      - name: id
        data_tests:
          - not_null: {store_failures: true, alias: fct_cycle_time}
          - unique: {config: {where: 'x\\", limit=run_query() ) }} --'}}
"""
    assert told({"a.yml": text, "a.sql": "select 1 as x"}) == [
        ("a.yml", 6, "config-key"),
        ("a.yml", 6, "config-key"),
        ("a.yml", 7, "config-key"),
    ]


def test_an_exposure_that_hides_a_brace_is_judged_as_dbt_reads_it() -> None:
    text = """exposures:
  - name: board
    type: dashboard
    maturity: high
    owner: {name: us}
    url: https://x/{{ project_slug }}
    description: "\\x7b\\x7b env_var('HOME') }}"
    depends_on: [ref('fct_throughput'), ref('nobody'), now()]
"""
    assert told({"e.yml": text}) == [
        ("e.yml", 7, "jinja-forbidden"),
        ("e.yml", 8, "exposure"),
        ("e.yml", 8, "ref-missing"),
    ]


def test_rows_of_unit_tests_that_are_statements_are_judged_as_models_are() -> None:
    text = """unit_tests:
  - name: counts
    model: a
    given:
      - input: ref('fct_throughput')
        format: sql
        rows: |
          select pg_read_file('/etc/passwd') as project_id
      - input: ref('dim_projects')
        format: sql
        rows: select 1 as project_id
    expect:
      rows:
        - {x: 1}
"""
    assert told({"a.yml": text, "a.sql": "select 1 as x"}) == [("a.yml", 7, "sql-function")]


def test_docs_blocks_are_left_to_dbt_which_renders_them_without_a_context() -> None:
    text = "Written for {{ people }}. {% docs board %}A board of {{ project_slug }}{% enddocs %}"

    assert told({"analytics/dbt/macros/README.md": text}) == []
