"""Bringing the ledger's tables up to a release, and the SQL files that the ledger's code uses."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

import kiket_worker
from kiket_worker.dev import platform
from kiket_worker.errors import LedgerForbidden, LedgerNotMigrated, PostgresUnreachable
from kiket_worker.ledger import outbox, runs
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.migrate import migrate

PACKAGE = Path(kiket_worker.__file__).parent
MIGRATIONS = sorted(path.stem for path in (PACKAGE / "ledger" / "migrations").glob("*.sql"))
STATEMENTS = sorted(path for part in ("ledger", "tenants") for path in (PACKAGE / part / "sql").glob("*.sql"))

OBJECTS = (
    "select relname as name from pg_class where relnamespace = 'public'::regnamespace"
    " union all select proname from pg_proc where pronamespace = 'public'::regnamespace"
    " union all select tgname from pg_trigger join pg_class on pg_class.oid = tgrelid"
    " where relnamespace = 'public'::regnamespace order by 1"
)


def ledger_tables(database: Any) -> list[str]:
    found = database.rows("select tablename from pg_tables where schemaname = 'kiket_analytics' order by 1")
    return [row["tablename"] for row in found]


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def test_the_first_migration_applies_everything_and_the_second_nothing(empty_database: Any) -> None:
    assert migrate(empty_database.url) == MIGRATIONS
    tables = ledger_tables(empty_database)
    assert {"runs", "leases", "usage_events", "analytics_settings"} <= set(tables)
    empty_database.execute("insert into kiket_analytics.analytics_settings (organization_id, enabled) values (1, true)")
    assert migrate(empty_database.url) == []
    assert ledger_tables(empty_database) == tables
    assert empty_database.rows("select organization_id from kiket_analytics.analytics_settings") == [
        {"organization_id": 1}
    ]


def test_nothing_of_the_platform_is_touched_and_nothing_is_added_to_its_schema(empty_database: Any) -> None:
    with psycopg.connect(empty_database.url) as connection:
        platform.create_tables(connection)
    before = empty_database.rows(OBJECTS)
    migrate(empty_database.url)
    assert empty_database.rows(OBJECTS) == before
    schemas = empty_database.rows(
        "select nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema' order by 1"
    )
    assert [row["nspname"] for row in schemas] == ["kiket_analytics", "public"]


@pytest.mark.parametrize("attempt", range(3))
def test_several_migrations_at_once_apply_everything_once(empty_database: Any, attempt: int) -> None:
    together = threading.Barrier(4)

    def run() -> list[str]:
        together.wait(30)
        return migrate(empty_database.url)

    with ThreadPoolExecutor(4) as pool:
        applied = [future.result(60) for future in [pool.submit(run) for _ in range(4)]]
    assert sorted(applied) == [[], [], [], MIGRATIONS]
    assert empty_database.rows("select count(*) as rows from kiket_analytics.ticker") == [{"rows": 1}]


def test_a_migration_that_meets_another_at_its_first_statement_waits_for_it(empty_database: Any) -> None:
    with empty_database.connect() as other, ThreadPoolExecutor(1) as pool:
        other.execute("begin")
        other.execute("create schema kiket_analytics")
        migrating = pool.submit(migrate, empty_database.url)
        until(
            lambda: empty_database.rows(
                "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
            )
        )
        other.execute("commit")
        assert migrating.result(60) == MIGRATIONS


@pytest.mark.parametrize("killed", ["at its first statement", "later"])
def test_a_migration_that_was_killed_does_not_lock_the_next_one_out(empty_database: Any, killed: str) -> None:
    # yoyo's lock is a row, which a killed process leaves behind.
    if killed == "later":
        migrate(empty_database.url)
    empty_database.execute(
        "create schema if not exists kiket_analytics;"
        "create table if not exists kiket_analytics.yoyo_lock"
        " (locked integer primary key default 1, ctime timestamp, pid integer not null);"
        "insert into kiket_analytics.yoyo_lock (ctime, pid) values (now(), 4711)"
    )
    assert migrate(empty_database.url) == ([] if killed == "later" else MIGRATIONS)


def test_a_ledger_that_was_never_migrated_is_said_by_name(empty_database: Any) -> None:
    with Database(empty_database.url) as database, pytest.raises(LedgerNotMigrated, match="kiket-worker migrate"):
        runs.list_newest(database, limit=1)


@pytest.mark.parametrize("password", ["a[b", "a]b", "[::1]", "%23%2F%3F", "ä+b%20c"])
def test_a_password_may_hold_what_a_url_elsewhere_may_not(empty_database: Any, password: str) -> None:
    url = empty_database.url.replace("postgresql://postgres@", f"postgresql://postgres:{password}@")
    assert url != empty_database.url
    assert migrate(url) == MIGRATIONS


@pytest.fixture
def weak_url(empty_database: Any) -> Iterator[str]:
    """The URL of a login that may connect, and nothing else."""
    name = f"weak_{uuid4().hex[:8]}"
    empty_database.execute(f"create role {name} login password 'weak'")
    yield empty_database.url.replace("postgresql://postgres@", f"postgresql://{name}:weak@")
    empty_database.execute(f"drop role {name}")


def test_a_login_that_may_not_create_anything_is_told_so(weak_url: str) -> None:
    with pytest.raises(LedgerForbidden, match="docs/operations"):
        migrate(weak_url)


def test_a_postgres_that_may_only_be_read_counts_as_one_that_will_come_back(database: Any) -> None:
    name = database.rows("select current_database() as name")[0]["name"]
    database.execute(f"alter database {name} set default_transaction_read_only = on")
    with Database(database.url) as ledger, pytest.raises(PostgresUnreachable, match="read-only"):
        outbox.queue_due(ledger, datetime.now(UTC))
    with pytest.raises(PostgresUnreachable, match="read-only"):
        migrate(database.url)


def test_every_statement_of_the_ledger_is_used_and_explained() -> None:
    sources = "".join(source.read_text() for source in PACKAGE.rglob("*.py"))
    assert STATEMENTS
    ways = ('statement("{}"', 'reading("{}"')
    assert [path.stem for path in STATEMENTS if not any(way.format(path.stem) in sources for way in ways)] == []
    assert [path.stem for path in STATEMENTS if not path.read_text().startswith("-- ")] == []
