"""The sample platform in a real Postgres."""

from datetime import UTC, datetime
from typing import Any, Protocol

import psycopg
import pytest
from psycopg.rows import namedtuple_row
from psycopg.sql import SQL

from kiket_worker.dev.issues import issue_rows
from kiket_worker.dev.platform import TABLES, create_tables, load
from kiket_worker.dev.sample import release_rows, tiny, user_rows

NOW = datetime(2026, 3, 18, 14, 30, tzinfo=UTC)
SEED = 7


class Database(Protocol):
    """What the fixture `empty_database` gives."""

    url: str


def count(connection: psycopg.Connection[Any], table: str) -> int:
    (table_found,) = (known for known in TABLES if known.name == table)
    row = connection.execute(SQL("select count(*) from {}").format(table_found.qualified)).fetchone()
    assert row is not None
    return int(row[0])


def test_every_generated_row_arrives_and_is_counted(empty_database: Database) -> None:
    with psycopg.connect(empty_database.url) as connection:
        create_tables(connection)
        counts = load(connection, tiny(), seed=SEED, now=NOW)
        assert counts == {table.name: count(connection, table.name) for table in TABLES}
    generated = {table.name: sum(1 for spec in tiny() for _ in table.rows(spec, SEED, NOW)) for table in TABLES}
    assert counts == generated
    assert counts["issues"] == sum(spec.issues for spec in tiny()) > 0


def test_every_value_comes_back_as_it_was_generated(empty_database: Database) -> None:
    with psycopg.connect(empty_database.url, row_factory=namedtuple_row) as connection:
        create_tables(connection)
        load(connection, tiny(), seed=SEED, now=NOW)
        for table in TABLES:
            rows = connection.execute(SQL("select * from {} order by id").format(table.qualified)).fetchall()
            # The columns have the order of the table's definition, so a field in the wrong place would show.
            assert rows[0]._fields == table.columns
            assert [tuple(row) for row in rows] == [
                tuple(row) for spec in tiny() for row in table.rows(spec, SEED, NOW)
            ], table.name
    # Or the above would say little about COPY's escapes.
    written = "".join(issue.title for spec in tiny() for issue in issue_rows(spec, SEED, NOW))
    written += "".join(user.name for spec in tiny() for user in user_rows(spec, SEED, NOW))
    written += "".join(release.changelog or "" for spec in tiny() for release in release_rows(spec, SEED, NOW))
    assert {"\t", "\n", "\\", "'", '"', "🐛"} <= set(written)


def test_loading_happens_in_the_callers_transaction(empty_database: Database) -> None:
    with psycopg.connect(empty_database.url) as connection:
        create_tables(connection)
        connection.commit()
        load(connection, tiny(), seed=SEED, now=NOW)
        with psycopg.connect(empty_database.url) as observer:
            assert count(observer, "issues") == 0
        connection.rollback()
        assert [count(connection, table.name) for table in TABLES] == [0] * len(TABLES)


def test_creating_the_tables_can_be_rolled_back_too(empty_database: Database) -> None:
    with psycopg.connect(empty_database.url) as connection:
        create_tables(connection)
        connection.rollback()
        assert connection.execute("select to_regclass('public.issues')").fetchone() == (None,)


def test_organisations_loaded_one_after_the_other_do_not_collide(empty_database: Database) -> None:
    first, *others = tiny()
    with psycopg.connect(empty_database.url) as connection:
        create_tables(connection)
        load(connection, [first], seed=SEED, now=NOW)
        load(connection, others, seed=SEED, now=NOW)
        assert count(connection, "organizations") == len(tiny())
        assert count(connection, "issues") == sum(spec.issues for spec in tiny())


def test_an_organisation_that_is_there_already_is_refused(empty_database: Database) -> None:
    with psycopg.connect(empty_database.url) as connection:
        create_tables(connection)
        load(connection, tiny(), seed=SEED, now=NOW)
        with pytest.raises(psycopg.errors.UniqueViolation):
            load(connection, tiny()[:1], seed=SEED, now=NOW)


def test_the_planner_knows_the_tables_after_loading(empty_database: Database) -> None:
    with psycopg.connect(empty_database.url) as connection:
        create_tables(connection)
        counts = load(connection, tiny(), seed=SEED, now=NOW)
        estimates = connection.execute(
            "select relname, reltuples::bigint from pg_class where relname = any(%s)", [list(counts)]
        ).fetchall()
        assert dict(estimates) == counts
