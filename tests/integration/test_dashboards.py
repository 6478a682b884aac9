"""Queries of dashboards on a real Postgres: prepared, run, and compared with what Python says."""

import json
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from psycopg import sql

from kiket_worker.definitions.dashboards.document import (
    Filter,
    Operator,
    Parameter,
    QueryConfig,
    Reference,
)
from kiket_worker.definitions.dashboards.preparing import relations_of
from kiket_worker.definitions.dashboards.query import build
from kiket_worker.definitions.dashboards.rules import DASHBOARD_RULES, REFUSED
from kiket_worker.tenants.schema import schema_name
from tests.support.dashboard_queries import COLUMNS, HOSTILE, TEXTS, filters, queries
from tests.support.dashboards import CORE, QUERY, RULES, board, check, guide_example, repository, widget
from tests.support.installations import Installation

SCHEMA = 'scratch "%s'
HOSTILE_TABLE = "fct_%s\"'"
_DAYS = (date(2026, 1, 31), date(2000, 2, 29), None)


def _create(connection: psycopg.Connection[Any], schema: str, name: str, columns: dict[str, str]) -> None:
    described = [sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(kind)) for column, kind in columns.items()]
    connection.execute(
        sql.SQL("create table {} ({})").format(sql.Identifier(schema, name), sql.SQL(", ").join(described))
    )


def _row(number: int) -> tuple[Any, ...]:
    text = HOSTILE[number % len(HOSTILE)]
    return (
        number % 7 - 3,
        text,
        HOSTILE[-number % len(HOSTILE)] if number % 5 else None,
        text[:20],
        Decimal(number % 6 - 2) if number % 4 else None,
        [True, False, None][number % 3],
        _DAYS[number % 3],
        float(number % 5) if number % 3 else None,
        [2**63 - 1, -(2**63), 0, None][number % 4],
    )


ROWS = [_row(number) for number in range(60)]


@pytest.fixture(scope="module")
def session(module_database: Any) -> Iterator[psycopg.Connection[Any]]:
    """A superuser's session with the core marts, a table with hostile names, and one that must not be lost."""
    with module_database.connect() as connection:
        connection.execute(sql.SQL("create schema {}").format(sql.Identifier(SCHEMA)))
        for name, columns in CORE.items():
            _create(connection, SCHEMA, name, columns)
        _create(connection, SCHEMA, HOSTILE_TABLE, COLUMNS)
        connection.execute("create table public.victim as select 1 as one")
        # This cursor's placeholders are `$1`: a `%` in a name is none.
        with psycopg.RawCursor(connection) as cursor:
            places = sql.SQL(", ").join([sql.SQL("$") + sql.Literal(number + 1) for number in range(len(COLUMNS))])
            table = sql.Identifier(SCHEMA, HOSTILE_TABLE)
            cursor.executemany(sql.SQL("insert into {} values ({})").format(table, places), ROWS)
        yield connection


@pytest.fixture
def checked(session: psycopg.Connection[Any]) -> Callable[..., list[Any]]:
    def run(repository: Any, **options: Any) -> list[Any]:
        return check(repository, session=session, schema=SCHEMA, **options)

    return run


def test_relations_are_found_with_the_types_of_their_columns(session: psycopg.Connection[Any]) -> None:
    session.execute("create domain public.points as numeric(5,2)")
    session.execute("create type public.mood as enum ('good', 'bad')")
    session.execute(
        "create schema other create table t (p public.points, m public.mood, gone int) create table bare ()"
    )
    session.execute("create view other.v as select p from other.t")
    session.execute("alter table other.t drop column gone")
    assert relations_of(session, "other") == {
        "bare": {},
        "t": {"p": "numeric(5,2)", "m": "mood"},
        "v": {"p": "numeric(5,2)"},
    }
    assert relations_of(session, SCHEMA) == {**CORE, HOSTILE_TABLE: COLUMNS}
    assert relations_of(session, "nowhere") == {}


@pytest.mark.parametrize("rule", [rule.name for rule in DASHBOARD_RULES])
def test_postgres_has_nothing_against_the_right_examples(rule: str, checked: Callable[..., list[Any]]) -> None:
    assert checked(repository(RULES / rule / "right")) == []
    assert {problem.rule for problem in checked(repository(RULES / rule / "wrong"))} == {rule}


def test_postgres_has_nothing_against_the_example_of_the_guide(checked: Callable[..., list[Any]]) -> None:
    assert checked(guide_example()) == []


def test_what_postgres_says_becomes_a_problem_at_the_line_of_the_widget(checked: Callable[..., list[Any]]) -> None:
    text = board(
        widget("model: dim_projects, aggregates: {total: sum(project_name)}"),
        widget("model: fct_throughput"),
        alerts='  alerts:\n    - {query: fct_throughput, condition: "project_id < 5", notify_roles: [manager]}',
    )
    problems = checked(text)
    assert [(problem.rule, problem.line) for problem in problems] == [(REFUSED.name, 6)]
    assert "sum(text) does not exist" in problems[0].message


def test_a_refusal_leaves_the_callers_transaction_and_no_prepared_statement(
    session: psycopg.Connection[Any], checked: Callable[..., list[Any]]
) -> None:
    text = board(widget("model: dim_projects, aggregates: {t: sum(project_name)}"), widget("model: fct_throughput"))
    with session.transaction():
        session.execute("create table public.kept ()")
        assert len(checked(text)) == 1
    assert session.execute("select to_regclass('public.kept') is not null as is_kept").fetchone() == {"is_kept": True}
    names = session.execute("select name from pg_prepared_statements where name not like '\\_pg3%'").fetchall()
    assert names == []


def test_a_model_of_another_schema_is_prepared_there(checked: Callable[..., list[Any]]) -> None:
    text = board(widget("model: dim_dates"))
    relations = {"dim_dates": {"date_day": "date"}}
    assert [problem.rule for problem in checked(text, relations=relations)] == [REFUSED.name]
    assert [problem.message for problem in checked(text, relations=relations, schemas={"dim_dates": "public"})] == [
        "Postgres refuses the query of widget 'w1': relation \"public.dim_dates\" does not exist"
    ]


def test_a_query_file_is_prepared_too(checked: Callable[..., list[Any]]) -> None:
    text = 'model_version: "1.0"\nquery: {id: q, query_config: {model: dim_projects, aggregates: {t: avg(created_on)}}}'
    assert [problem.rule for problem in checked({QUERY: text})] == [REFUSED.name]


def test_hostile_names_of_columns_are_named_in_a_file_as_others_are(checked: Callable[..., list[Any]]) -> None:
    columns = json.dumps([name for name in COLUMNS if name])
    text = board(widget(f"model: {json.dumps(HOSTILE_TABLE)}, select: {columns}, group_by: {columns}"))
    assert checked(text, relations={HOSTILE_TABLE: COLUMNS}) == []


def test_the_organisations_reader_runs_what_was_checked_as_its_owner(installation: Installation) -> None:
    candidate = installation.add()
    installation.provision(candidate)
    schema = schema_name(candidate.slug)
    with installation.tenant(candidate.slug) as owner:
        owner.execute(f"create table {schema}.fct_throughput as select 7::bigint as project_id, 3 as issues_completed")
        relations = relations_of(owner, schema)
        assert (
            check(board("type: table, query: fct_throughput"), relations=relations, session=owner, schema=schema) == []
        )
    query = build(
        QueryConfig("fct_throughput", filters=(Filter("project_id", Operator.EQUALS, (7,)),)),
        schema,
        relations["fct_throughput"],
        {},
    )
    with installation.reader(candidate.slug) as reader:
        assert query.rows(reader) == [{"project_id": 7, "issues_completed": 3}]


@given(made=queries())
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_generated_query_runs_and_changes_nothing(
    session: psycopg.Connection[Any], made: tuple[QueryConfig, dict[str, Any]]
) -> None:
    config, arguments = made
    rows = build(config, SCHEMA, COLUMNS, arguments).rows(session)
    output = [entry.alias for entry in config.output(tuple(COLUMNS))]
    assert all(list(row) == output for row in rows)
    row = session.execute("select count(*) as n from public.victim").fetchone()
    assert row == {"n": 1}


@given(made=filters(), text=TEXTS)
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_those_that_python_finds(
    session: psycopg.Connection[Any],
    made: tuple[tuple[Filter, ...], tuple[Parameter, ...], dict[str, Any]],
    text: str,
) -> None:
    chosen, parameters, arguments = made
    config = QueryConfig(HOSTILE_TABLE, filters=chosen, parameters=parameters)
    found = [tuple(row.values()) for row in build(config, SCHEMA, COLUMNS, arguments).rows(session)]
    expected = [row for row in ROWS if all(_holds(filter_, row, arguments) for filter_ in chosen)]
    assert sorted(map(repr, found)) == sorted(map(repr, map(_stored, expected)))
    by_text = QueryConfig(HOSTILE_TABLE, filters=(Filter("plain", Operator.EQUALS, (text,)),))
    assert len(build(by_text, SCHEMA, COLUMNS, {}).rows(session)) == sum(row[1] == text for row in ROWS)


def _stored(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row as Postgres gives it: numeric(12,4) has four places."""
    return (*row[:4], None if row[4] is None else row[4].quantize(Decimal("0.0001")), *row[5:])


def _holds(filter_: Filter, row: tuple[Any, ...], arguments: dict[str, Any]) -> bool:
    value = row[list(COLUMNS).index(filter_.column)]
    value = str(value) if isinstance(value, date) else value
    known = [
        arguments.get(compared.name, ...) if isinstance(compared, Reference) else compared
        for compared in filter_.values
    ]
    compared_with = [compared for compared in known if compared is not ...]
    if not compared_with:
        return True
    # In Python, True equals 1; the columns have one type each, so that it never matters.
    is_among = value in compared_with
    return is_among if filter_.operator in {Operator.EQUALS, Operator.IN} else not is_among
