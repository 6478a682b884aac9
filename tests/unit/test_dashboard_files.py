"""Dashboard and query files: what is read, what is a problem where, and what hostile files do."""

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kiket_worker.definitions.problem import Problem, Severity
from tests.support.dashboards import BOARD, CORE, QUERY, board, check, widget

MARTS = Path(__file__).parents[2] / "analytics" / "dbt" / "models" / "marts"

QUERY_FILE = """model_version: "1.0"
query:
  id: throughput
  query_config:
    model: fct_throughput
    parameters: {project_id: integer, least: integer}
    filters: {project_id: ":project_id"}
"""

# The shapes that shipped templates have.
TEMPLATE = """model_version: "1.0"
dashboard:
  id: release.epics
  name: Epics
  description: How epics go on.
  widgets:
    - id: overview
      type: table
      title: Overview
      query: fct_epic_rollups
      query_config:
        model: fct_epic_rollups
        parameters:
          - name: project_id
            type: integer
            required: true
        filters:
          project_id: ":project_id"
          guardrail_status:
            operator: not_in
            value: [on_track, unscoped]
        select: [epic_title, guardrail_status, completion_ratio]
        order_by: [guardrail_status DESC, completion_ratio ASC]
        limit: 14
      options:
        window: 7d
        comparison: {interval: "7d"}
        columns: [epic_title, {column: completion_ratio, title: Done}]
    - id: distribution
      type: bar
      query: fct_epic_rollups
      query_config:
        model: fct_epic_rollups
        group_by: [guardrail_status]
        aggregates:
          total_epics: "count(epic_id)"
      visualization: {x: guardrail_status, y: total_epics, format: percentage}
    - id: mix
      type: leaderboard
      query: fct_epic_rollups
      visualization: {group_by: guardrail_status, value: child_count}
    - id: note
      type: text
      text: Ask the team.
  alerts:
    - query: fct_epic_rollups
      query_config:
        model: fct_epic_rollups
        filters: {guardrail_status: {operator: equals, value: stalled}}
      condition: completion_ratio < 0.5 * 1.5 or total_story_points > 0
      message: Look at the epics
      notify_roles: [manager, scrum_master]
"""


def rules_of(problems: list[Problem]) -> list[str]:
    return [problem.rule for problem in problems]


def only(problems: list[Problem]) -> Problem:
    assert len(problems) == 1, problems
    return problems[0]


def test_the_table_of_relations_of_these_tests_is_what_the_core_project_declares() -> None:
    declared = {}
    for path in MARTS.glob("*.yml"):
        for model in yaml.safe_load(path.read_text())["models"]:
            declared[model["name"]] = {
                column["name"]: column["data_type"].replace(", ", ",").removeprefix("pg_catalog.")
                for column in model["columns"]
            }
    assert {name: declared[name] for name in CORE} == CORE


def test_the_shapes_of_shipped_templates_are_read() -> None:
    assert check(TEMPLATE) == []


def test_a_column_with_a_slip_of_the_pen_is_named_with_what_was_meant_at_its_line() -> None:
    text = TEMPLATE.replace("[epic_title, guardrail_status, completion_ratio]", "\n          - epic_titel")
    problem = check(text)[0]
    assert problem.message == (
        "widget 'overview' selects 'epic_titel', which fct_epic_rollups does not have; did you mean 'epic_title'?"
    )
    assert text.splitlines()[problem.line - 1].strip() == "- epic_titel"
    assert "epic_title" in problem.hint


def test_all_problems_of_a_file_are_found_at_once() -> None:
    text = board(
        widget("model: fct_throughput, select: [a], limit: 0"),
        widget("model: nowhere", "type: tabel"),
        "type: kpi",
        alerts='  alerts: [{query: fct_throughput, condition: "issues_completed <", notify_roles: []}]',
    )
    found = set(rules_of(check(text)))
    assert found == {
        "widget-column",
        "dashboard-shape",
        "widget-model",
        "widget-type",
        "alert-condition",
        "alert-roles",
    }


@pytest.mark.parametrize(
    ("config", "rule", "words"),
    [
        ("model: [fct_throughput]", "dashboard-shape", "the model of widget 'w1' is a list"),
        ("model: null", "dashboard-shape", "is nothing"),
        ("model: ''", "dashboard-shape", "is empty"),
        ("model: fct_throughput, select: {a: b}", "dashboard-shape", "not a list"),
        ("model: fct_throughput, select: [[a]]", "dashboard-shape", "is a list and not a name"),
        ("model: fct_throughput, select: [yes]", "dashboard-shape", "is a boolean and not a name"),
        ("model: fct_throughput, select: [{as: b}]", "dashboard-shape", "is nothing and not a name"),
        ("model: fct_throughput, select: [{column: project_id, as: 'a b'}]", "dashboard-name", "'a b'"),
        ('model: fct_throughput, select: ["a\\0b"]', "dashboard-name", "no name of Postgres'"),
        (f"model: fct_throughput, select: [{'é' * 32}]", "dashboard-name", "no name of Postgres'"),
        ("model: fct_throughput, filters: [project_id]", "dashboard-shape", "not a mapping"),
        ("model: fct_throughput, filters: {project_id: [1, 2]}", "dashboard-shape", "compares with a list"),
        ("model: fct_throughput, filters: {project_id: {operator: like, value: 1}}", "dashboard-shape", "'like'"),
        ("model: fct_throughput, filters: {project_id: {operator: in, value: []}}", "dashboard-shape", "at least one"),
        ("model: fct_throughput, filters: {project_id: {operator: in, value: [~]}}", "dashboard-shape", "a null"),
        ("model: fct_throughput, filters: {project_id: {operator: in, value: [[1]]}}", "dashboard-shape", "a list"),
        ("model: fct_throughput, filters: {project_id: {operator: equals}}", "dashboard-shape", "no 'value'"),
        ("model: fct_throughput, filters: {project_id: {}}", "dashboard-shape", "no 'operator'"),
        ("model: fct_cycle_time, filters: {avg_cycle_days: 1.0e+400}", "dashboard-shape", "not finite"),
        ("model: fct_cycle_time, filters: {avg_cycle_days: .nan}", "dashboard-shape", "not finite"),
        ("model: fct_cycle_time, filters: {avg_cycle_days: 1e400}", "widget-value", "'1e400'"),
        ("model: fct_throughput, filters: {project_id: 9223372036854775808}", "widget-value", "9223372036854775808"),
        ("model: fct_throughput, filters: {project_id: yes}", "widget-value", "with true"),
        ("model: fct_throughput, filters: {project_id: 1.5}", "widget-value", "with 1.5"),
        ("model: fct_throughput, filters: {completed_on: '2026-02-31'}", "widget-value", "'2026-02-31'"),
        ("model: fct_throughput, filters: {completed_on: 20260131}", "widget-value", "with 20260131"),
        ("model: fct_usage_events, filters: {metric: 7}", "widget-value", "with 7"),
        ("model: dim_projects, filters: {is_archived: 'yes'}", "widget-value", "'yes'"),
        ('model: dim_projects, filters: {project_key: "a\\0"}', "dashboard-name", "cannot be stored"),
        ("model: fct_throughput, parameters: {p: number}", "parameter-type", "'number'"),
        ("model: fct_throughput, parameters: {p: [integer]}", "dashboard-shape", "is a list and not a type"),
        ("model: fct_throughput, parameters: [{type: integer}]", "dashboard-shape", "is nothing"),
        ("model: fct_throughput, parameters: [p]", "dashboard-shape", "is a text and not a mapping"),
        ("model: fct_throughput, parameters: {p: {required: true}}", "dashboard-shape", "no 'type'"),
        ("model: fct_throughput, parameters: {p: {type: date, required: 1}}", "dashboard-shape", "not a boolean"),
        ("model: fct_throughput, parameters: {'a-b': integer}", "dashboard-name", "'a-b'"),
        (
            "model: fct_throughput, parameters: [{name: p, type: date}, {name: p, type: date}]",
            "dashboard-shape",
            "twice",
        ),
        ("model: fct_throughput, aggregates: {a: sum}", "dashboard-shape", "not a call"),
        ("model: fct_throughput, aggregates: {a: median(x)}", "dashboard-shape", "'median'"),
        ("model: fct_throughput, aggregates: {a: 'sum(*) from x'}", "dashboard-shape", "not a call"),
        ("model: fct_throughput, aggregates: {a: sum()}", "dashboard-shape", "is empty"),
        ("model: fct_throughput, aggregates: {a: 'sum(*)'}", "widget-column", "'*'"),
        ("model: fct_throughput, aggregates: {a: {column: b}}", "dashboard-shape", "no 'function'"),
        ("model: fct_throughput, aggregates: [{function: count}]", "dashboard-shape", "is nothing"),
        ("model: fct_throughput, order_by: [{column: project_id, direction: up}]", "dashboard-shape", "'up'"),
        ("model: fct_throughput, order_by: [project_id sideways]", "widget-column", "'project_id sideways'"),
        ("model: fct_throughput, group_by: project_id", "dashboard-shape", "is a text and not a list"),
        ("model: fct_throughput, limit: 10001", "dashboard-shape", "from 1 to 10000"),
        ("model: fct_throughput, limit: yes", "dashboard-shape", "from 1 to 10000"),
        ("model: fct_throughput, limit: ':most'", "parameter-undeclared", "':most'"),
        ("model: fct_throughput, parameters: {most: date}, limit: ':most'", "parameter-type", "of type date"),
        (
            "model: fct_throughput, parameters: {most: {type: integer, default: 0}}, limit: ':most'",
            "parameter-default",
            "between 1 and 10000",
        ),
        ("model: fct_throughput, where: x", "dashboard-key", "'where'"),
    ],
)
def test_what_a_query_may_not_be(config: str, rule: str, words: str) -> None:
    problem = only(check(board(widget(config))))
    assert problem.rule == rule
    assert words in problem.message
    assert problem.line == 6


@pytest.mark.parametrize(
    "config",
    [
        "model: fct_throughput",
        "model: fct_throughput, filters: {project_id: null, completed_on: 2026-01-31}",
        "model: fct_cycle_time, filters: {avg_cycle_days: 1.5}",
        "model: fct_cycle_time, filters: {avg_cycle_days: {operator: not_in, value: [1, 2.5]}}",
        "model: fct_throughput, parameters: {most: {type: integer, default: 5}}, limit: ':most'",
        "model: fct_throughput, parameters: {day: {type: date, default: 2026-01-31}}, filters: {completed_on: ':day'}",
        "model: fct_usage_events, filters: {metric: ':not a name'}",
        "model: fct_throughput, group_by: [project_id]",
        "model: fct_throughput, aggregates: {n: count(), m: 'COUNT( DISTINCT completed_on )'}, order_by: [n desc]",
        "model: fct_throughput, aggregates: [{function: count, as: n}, {function: max, column: project_id, as: m}]",
    ],
)
def test_what_a_query_may_be(config: str) -> None:
    assert check(board(widget(config))) == []


@pytest.mark.parametrize(
    "document",
    ["", "[]", "5", "model_version: '1.0'", "dashboard: []\nmodel_version: '1.0'", "dashboard: {}", "{? 5: 5}"],
)
def test_a_file_that_is_no_dashboard_says_so(document: str) -> None:
    assert "dashboard-shape" in rules_of(check(document)) or "dashboard-version" in rules_of(check(document))


def test_files_that_are_no_yaml_are_passed_over() -> None:
    assert check({BOARD: "a: [", QUERY: "b: &x 1"}) == []


def test_an_unreadable_query_file_is_not_held_against_those_who_name_its_query() -> None:
    text = board("type: table, query: weekly")
    assert rules_of(check({BOARD: text})) == ["query-unknown"]
    assert check({BOARD: text, QUERY: "b: &x 1"}) == []


def test_a_query_file_is_checked_once_and_its_parameters_may_be_used_by_a_condition() -> None:
    alerts = '  alerts: [{query: throughput, condition: "issues_completed < :least", notify_roles: [manager]}]'
    widgets = ["type: table, query: throughput", "type: table, query: throughput, visualization: {x: nothing}"]
    assert rules_of(check({BOARD: board(*widgets, alerts=alerts), QUERY: QUERY_FILE})) == ["widget-column"]
    assert rules_of(check({QUERY: QUERY_FILE})) == ["parameter-unused"]
    broken = QUERY_FILE.replace('{project_id: ":project_id"}', '{project: ":project_id"}')
    problem = only(check({BOARD: board(*widgets[:1], alerts=alerts), QUERY: broken}))
    assert (problem.file, problem.rule) == (QUERY, "widget-column")


def test_the_id_of_a_query_file_is_its_name_where_it_says_none() -> None:
    text = QUERY_FILE.replace("  id: throughput\n", "").replace(", least: integer", "")
    assert check({BOARD: board("type: table, query: throughput"), QUERY: text}) == []


def test_of_a_model_that_could_not_be_built_no_columns_are_missed() -> None:
    text = board(
        widget("model: broken, select: [anything], parameters: {p: date}, order_by: [that]"),
        alerts='  alerts: [{query: broken, condition: "whatever > 1 and )", notify_roles: [a]}]',
    )
    assert rules_of(check(text, unbuilt={"broken"})) == ["parameter-unused", "alert-condition"]
    assert set(rules_of(check(text))) == {"parameter-unused", "alert-condition", "widget-model", "query-unknown"}


def test_a_condition_uses_what_its_query_gives_and_what_is_declared() -> None:
    def with_condition(condition: str) -> list[Problem]:
        config = "{model: fct_throughput, aggregates: {total: sum(issues_completed)}}"
        return check(
            board(alerts=f'  alerts: [{{query_config: {config}, condition: "{condition}", notify_roles: [manager]}}]')
        )

    assert with_condition("total < 5") == []
    assert "did you mean 'total'" in only(with_condition("totals < 5")).message
    assert only(with_condition("issues_completed < 5")).rule == "alert-condition"
    assert only(with_condition("total < :least")).rule == "parameter-undeclared"


def test_queries_of_the_platform_itself_are_warned_of_and_let_be() -> None:
    problems = check(
        board(
            "type: line_chart, query: {issue_types: [bug], aggregate: count}",
            alerts="  alerts: [{id: stale, condition: {field: age}, channels: [slack]}]",
        )
    )
    assert rules_of(problems) == ["query-unchecked", "widget-type", "query-unchecked"]
    assert {problem.severity for problem in problems} == {Severity.WARNING}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (board(*["type: text"] * 201), "201 entries"),
        (board(alerts="  alerts: [" + "{}, " * 101 + "]"), "101 entries"),
        (board(widget(f"model: fct_throughput, select: [{'project_id, ' * 101}]")), "101 entries"),
        (board(widget(f"model: fct_throughput, group_by: [{'project_id, ' * 101}]")), "101 entries"),
        (board(widget(f"model: fct_throughput, filters: {{{', '.join(f'c{n}: 1' for n in range(101))}}}")), "101"),
        (board("type: text, title: " + "x" * 2001), "2000 characters"),
        (board(f"type: table, query: fct_throughput, options: {{columns: [{'project_id, ' * 101}]}}"), "101 entries"),
    ],
)
def test_there_is_a_most_of_everything(text: str, words: str) -> None:
    problem = only([problem for problem in check(text) if problem.rule == "dashboard-size"])
    assert words in problem.message


def test_a_file_full_of_problems_is_given_up_in_time() -> None:
    names = ", ".join(f"kolumn_{n}" for n in range(100))
    one = widget(f"model: wide, select: [{names}], group_by: [{names}]")
    wide = {"wide": {f"column_{n}": "bigint" for n in range(1600)}}
    begun = time.process_time()
    problems = check(board(*[one] * 150), relations=wide)
    assert len(problems) == 501
    assert problems[-1].rule == "dashboard-size" or "dashboard-size" in rules_of(problems)
    assert time.process_time() - begun < 10


def test_messages_show_nothing_that_a_terminal_would_obey() -> None:
    problems = check(board('type: "\\e[31m\\u202e", query: fct_throughput', '"\\e]0;x\\a": 1, type: text'))
    assert rules_of(problems) == ["widget-type", "dashboard-key"]
    assert all(problem.message.isprintable() for problem in problems)


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["fct_throughput", "project_id", ":p", "p", "integer", "sum(project_id)", "in", "x < 1"])
)
_WORDS = (
    "model select filters parameters aggregates group_by order_by limit name type required default column as function"
    " operator value direction id title query query_config visualization options x y columns widgets alerts condition"
    " notify_roles dashboard model_version"
)
_KEYS = st.sampled_from(_WORDS.split())
_ANYTHING = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS | st.text(max_size=3), inner, max_size=4),
)


@given(config=st.dictionaries(_KEYS, _ANYTHING, max_size=8), widget_keys=st.dictionaries(_KEYS, _ANYTHING, max_size=6))
@settings(deadline=None, max_examples=200)
def test_whatever_a_file_has_it_is_read_to_its_end(config: dict[str, object], widget_keys: dict[str, object]) -> None:
    parts = {"id": "w", "type": "table"} | widget_keys | {"query_config": {"model": "fct_throughput"} | config}
    document = {
        "model_version": "1.0",
        "dashboard": {"id": "d", "name": "D", "widgets": [parts], "alerts": [{"condition": "1 < 2"} | parts]},
    }
    for text in (yaml.safe_dump(document), yaml.safe_dump(widget_keys)):
        for problem in check({BOARD: text, QUERY: text.replace("dashboard", "query")}):
            assert 1 <= problem.line <= text.count("\n") + 1
            assert problem.message.isprintable()
