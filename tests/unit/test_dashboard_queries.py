"""Queries of dashboards: the SQL that they become, and that nothing of a file is pasted into it."""

import re
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
import sqlglot
from hypothesis import given, settings
from sqlglot import expressions

from kiket_worker.definitions.dashboards.document import (
    Filter,
    Function,
    Operator,
    Ordering,
    Parameter,
    ParameterType,
    QueryConfig,
    Reference,
)
from kiket_worker.definitions.dashboards.query import Query, build, sample_arguments
from kiket_worker.definitions.dashboards.query_config import read_config
from kiket_worker.definitions.dashboards.reading import Reading
from kiket_worker.definitions.dashboards.values import Comparable, comparable
from kiket_worker.definitions.yaml_document import read_yaml
from kiket_worker.errors import QueryArgumentInvalid, QueryUnfit
from tests.support.dashboard_queries import COLUMNS, queries
from tests.support.dashboards import CORE

FILTERED = """
model: fct_throughput
parameters:
  - {name: project_id, type: integer, required: true}
  - {name: day, type: date}
  - {name: most, type: integer, default: 50}
select: [project_id, {column: completed_on, as: day}]
aggregates: {total: sum(issues_completed), n: count(*)}
group_by: [project_id, completed_on]
filters:
  project_id: ":project_id"
  completed_on: ":day"
  issues_completed: {operator: not_in, value: [0, 1]}
order_by: [total desc, project_id]
limit: ":most"
"""


def config_of(text: str) -> QueryConfig:
    reading = Reading("query.yaml")
    config = read_config(reading, read_yaml(text), 1, "the query", None)
    assert config is not None
    assert reading.problems == []
    return config


def built(config: QueryConfig | str, columns: dict[str, str] | None = None, **arguments: Any) -> Query:
    config = config_of(config) if isinstance(config, str) else config
    return build(config, "analytics_org_acme", columns or CORE[config.model], arguments)


def test_a_query_has_its_parts_in_order_and_its_values_apart() -> None:
    query = built(FILTERED, project_id=7, day="2026-01-31")
    m = '"fct_throughput"'
    assert query.statement.as_string() == (
        f'select {m}."project_id" as "project_id", {m}."completed_on" as "day", '
        f'pg_catalog.sum({m}."issues_completed") as "total", pg_catalog.count(*) as "n" '
        f'from "analytics_org_acme".{m} '
        f'where {m}."project_id" = $1::pg_catalog.int8 and {m}."completed_on" = $2::pg_catalog.date '
        f'and ({m}."issues_completed" in ($3::pg_catalog.int8, $4::pg_catalog.int8)) is not true '
        f'group by {m}."project_id", {m}."completed_on" '
        f'order by "total" desc nulls last, "project_id" asc nulls last limit $5::pg_catalog.int8'
    )
    assert query.values == (7, date(2026, 1, 31), 0, 1, 50)


def test_a_filter_whose_parameter_has_no_value_is_left_out() -> None:
    query = built(FILTERED, project_id=7, day=None)
    assert query.values == (7, 0, 1, 50)
    in_list = QueryConfig(
        "fct_throughput",
        filters=(Filter("project_id", Operator.IN, (Reference("a"), Reference("b"))),),
        parameters=(Parameter("a", ParameterType.INTEGER), Parameter("b", ParameterType.INTEGER)),
    )
    assert built(in_list, b=2).values == (2, 10_000)
    assert " where " not in built(in_list).statement.as_string()


def test_nothing_selected_is_every_column_and_null_is_no_value() -> None:
    query = built("{model: fct_throughput, filters: {project_id: null}}")
    assert query.statement.as_string().count(" as ") == 3
    assert '"project_id" is null' in query.statement.as_string()
    assert query.values == (10_000,)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "'project_id' is required"),
        ({"project_id": None}, "'project_id' is required"),
        ({"project_id": "7"}, "whole number"),
        ({"project_id": True}, "whole number"),
        ({"project_id": 7.0}, "whole number"),
        ({"project_id": 2**63}, "whole number"),
        ({"project_id": [7]}, "whole number"),
        ({"project_id": 7, "day": "31.1.2026"}, "2026-01-31"),
        ({"project_id": 7, "day": "20260131"}, "2026-01-31"),
        ({"project_id": 7, "day": "2026-02-30"}, "2026-01-31"),
        ({"project_id": 7, "day": 20260131}, "2026-01-31"),
        ({"project_id": 7, "most": 0}, "1 to 10000 rows"),
        ({"project_id": 7, "most": 10_001}, "1 to 10000 rows"),
        ({"project_id": 7, "dat": "2026-01-31"}, "no parameter 'dat'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(QueryArgumentInvalid, match=re.escape(words)):
        built(FILTERED, **arguments)


@pytest.mark.parametrize("value", ["a\0b", "\ud800", 5])
def test_a_text_that_postgres_cannot_hold_is_refused(value: object) -> None:
    config = QueryConfig("fct_usage_events", parameters=(Parameter("m", ParameterType.STRING),))
    with pytest.raises(QueryArgumentInvalid):
        built(config, m=value)


@pytest.mark.parametrize(
    "config",
    [
        QueryConfig("fct_throughput", order_by=(Ordering("gone", is_descending=False),)),
        QueryConfig("fct_throughput", filters=(Filter("gone", Operator.EQUALS, (1,)),)),
        QueryConfig("fct_throughput", filters=(Filter("project_id", Operator.EQUALS, ("x",)),)),
        QueryConfig("fct_throughput", filters=(Filter("project_id", Operator.EQUALS, (Reference("x"),)),)),
        QueryConfig(
            "fct_throughput",
            filters=(Filter("project_id", Operator.EQUALS, (Reference("x"),)),),
            parameters=(Parameter("x", ParameterType.DATE),),
        ),
        QueryConfig(
            "fct_throughput", limit=Reference("x"), parameters=(Parameter("x", ParameterType.STRING, default="a"),)
        ),
    ],
)
def test_a_query_that_its_model_does_not_fit_any_more_is_refused(config: QueryConfig) -> None:
    with pytest.raises(QueryUnfit):
        built(config)


def test_a_number_is_compared_as_it_was_written() -> None:
    query = built("{model: fct_cycle_time, filters: {avg_cycle_days: 0.1}}")
    assert query.values[0] == Decimal("0.1")


@pytest.mark.parametrize(
    ("column_type", "expected"),
    [
        ("bigint", Comparable.INTEGER),
        ("numeric(12,4)", Comparable.NUMERIC),
        ("timestamp(3) with time zone", Comparable.TIMESTAMPTZ),
        ("timestamp without time zone", Comparable.TIMESTAMP),
        ("character varying(20)", Comparable.TEXT),
        ("integer[]", Comparable.TEXT),
        ("numeric(12,4)[]", Comparable.TEXT),
        ('analytics_org_acme."bigint"', Comparable.TEXT),
        ("", Comparable.TEXT),
    ],
)
def test_types_are_compared_as_what_they_are(column_type: str, expected: Comparable) -> None:
    assert comparable(column_type) is expected


@pytest.mark.parametrize(
    ("value", "is_taken"), [(0.1, True), (0, True), (2**63 - 1, True), (1e39, False), (1e-60, False)]
)
def test_a_real_takes_what_postgres_can_make_one_of(value: float, is_taken: bool) -> None:
    assert Comparable.REAL.takes(value) is is_taken


@given(made=queries())
@settings(deadline=None, max_examples=300)
def test_names_are_quoted_identifiers_values_are_bound_and_nothing_else_is_said(
    made: tuple[QueryConfig, dict[str, Any]],
) -> None:
    config, arguments = made
    query = build(config, 'analytics_org_%s"', COLUMNS, arguments)
    text = query.statement.as_string()
    names = {config.model, 'analytics_org_%s"', *COLUMNS}
    names |= {entry.alias for entry in config.output(tuple(COLUMNS))}
    # All that is not in double quotes is of a small vocabulary, whatever the file has.
    quoted = re.findall(r'"((?:[^"]|"")*)"', text)
    assert {name.replace('""', '"') for name in quoted} <= names
    rest = re.sub(r'"(?:[^"]|"")*"', "~", text)
    words = set(re.findall(r"[a-z_0-9]+", rest))
    assert words <= _VOCABULARY | {str(number) for number in range(1, len(query.values) + 1)}
    assert set(re.sub(r"[a-z_0-9~ ]", "", rest)) <= set(".,()*=$:")
    # Each value has its place, and each place its value.
    assert [int(number) for number in re.findall(r"\$(\d+)", rest)] == list(range(1, len(query.values) + 1))
    _check_shape(text, config)


_WORDS = (
    "select as from where and group order by limit asc desc nulls last in is not null true distinct"
    " pg_catalog count sum avg min max int8 numeric float4 float8 bool date timestamp timestamptz text"
)
_VOCABULARY = set(_WORDS.split())


def _check_shape(text: str, config: QueryConfig) -> None:
    """One plain select of one relation, as another parser reads it."""
    parsed = sqlglot.parse(text, dialect="postgres")
    assert len(parsed) == 1
    select = parsed[0]
    assert isinstance(select, expressions.Select)
    assert [table.name for table in select.find_all(expressions.Table)] == [config.model]
    assert not list(select.find_all(expressions.Subquery, expressions.Union, expressions.Join))
    assert [entry.alias for entry in select.expressions] == [entry.alias for entry in config.output(tuple(COLUMNS))]
    assert select.args.get("limit") is not None
    assert not [literal for literal in select.find_all(expressions.Literal) if literal.is_string]


def test_a_sample_is_bound_for_every_parameter() -> None:
    config = config_of(FILTERED)
    assert set(sample_arguments(config)) == {"project_id", "day", "most"}
    assert len(build(config, "s", CORE["fct_throughput"], sample_arguments(config)).values) == 5


def test_every_function_has_its_call() -> None:
    calls = ", ".join(f"{{function: {name.value}, column: project_id, as: a_{name.value}}}" for name in Function)
    text = built(f"{{model: fct_throughput, aggregates: [{calls}]}}").statement.as_string()
    assert all(f'as "a_{name.value}"' in text for name in Function)
    assert "pg_catalog.count(distinct " in text
