"""How far the ledger is behind, as the scheduler would say it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kiket_worker.errors import LedgerNotMigrated, PostgresUnreachable
from kiket_worker.ledger import claims, outbox, runs
from kiket_worker.ledger.backlog import measure
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.runs import Request
from kiket_worker.tenants.schema import schema_name

HOUR = 3600.0


@pytest.fixture
def empty_ledger(database: Any) -> Iterator[Database]:
    """The product's way to the ledger of `database`."""
    with Database(database.url) as opened:
        yield opened


def add(database: Any, number: int, slug: str, plan: str, hours_ago: float | None, **settings: object) -> None:
    """An organisation that was last refreshed so many hours ago."""
    now = datetime.now(UTC)
    database.execute(
        "insert into public.organizations (id, slug, name, plan, created_at) values (%s, %s, 'N', %s, %s)",
        *(number, slug, plan, now),
    )
    row = {
        "organization_id": number,
        "enabled": True,
        "last_run_at": None if hours_ago is None else now - timedelta(hours=hours_ago),
    } | settings
    columns, places = ", ".join(row), ", ".join(["%s"] * len(row))
    database.execute(
        f"insert into kiket_analytics.analytics_settings ({columns}) values ({places})",  # names of this test
        *row.values(),
    )


def claim(ledger: Database, number: int, slug: str, *, ttl_seconds: float = 60) -> None:
    run = runs.request(ledger, Request(number, slug))
    claims.claim(
        ledger, run.run_id, worker="w", ttl_seconds=ttl_seconds, schema_name=schema_name, end_sessions=lambda *_: 0
    )


def test_nothing_waits_in_an_empty_ledger(empty_ledger: Database) -> None:
    found = measure(empty_ledger, timeout_seconds=2)
    assert (found.due, found.oldest_due_seconds, found.quarantined) == (0, 0, 0)
    assert (found.lag_seconds, found.runs) == ({}, {})
    assert (found.leases_held, found.leases_expired, found.tick_age_seconds) == (0, 0, None)


def test_what_is_due_is_what_the_scheduler_would_queue_and_nobody_refreshes(
    empty_ledger: Database, database: Any
) -> None:
    add(database, 1, "late", "business", 9)
    add(database, 2, "later", "team", 17)
    add(database, 3, "fresh", "starter", 23)
    add(database, 4, "paused", "enterprise", 99, enabled=False)
    add(database, 5, "bad slug", "enterprise", 99)
    quarantine = {"quarantined_at": datetime.now(UTC), "quarantine_reason": "it kills"}
    add(database, 6, "ill", "enterprise", 99, **quarantine)
    add(database, 7, "new", "starter", None, updated_at=datetime.now(UTC) - timedelta(hours=2))
    add(database, 8, "refreshed", "business", 16)
    claim(empty_ledger, 8, "refreshed")

    found = measure(empty_ledger, timeout_seconds=2)
    assert found.due == 3
    assert found.oldest_due_seconds == pytest.approx(5 * HOUR, abs=60)
    assert found.lag_seconds == pytest.approx({"team": 5 * HOUR, "business": 10 * HOUR, "starter": 2 * HOUR}, abs=60)
    assert found.quarantined == 1
    assert found.runs == {"running": 1}
    assert {run.organization_slug for run in outbox.queue_due(empty_ledger, datetime.now(UTC))} == {
        *("late", "later", "new")
    }
    queued = measure(empty_ledger, timeout_seconds=2)
    assert queued.due == 3, "a run that only waits refreshes nobody"
    assert queued.runs == {"running": 1, "queued": 3}
    assert queued.tick_age_seconds == pytest.approx(0, abs=60)


def test_leases_are_counted_while_somebody_has_them(empty_ledger: Database, database: Any) -> None:
    for number, slug in enumerate(["a", "b", "c"], 1):
        add(database, number, slug, "team", 13)
        claim(empty_ledger, number, slug)
    database.execute(
        "update kiket_analytics.leases set expires_at = now() - interval '1 s' where schema_name = 'analytics_org_a'"
    )
    found = measure(empty_ledger, timeout_seconds=2)
    assert (found.leases_held, found.leases_expired) == (2, 1)


def test_a_ledger_that_is_not_there_or_locked_is_told_within_the_time_out(
    empty_ledger: Database, database: Any, empty_database: Any
) -> None:
    with Database(empty_database.url) as bare, pytest.raises(LedgerNotMigrated):
        measure(bare, timeout_seconds=2)
    with ThreadPoolExecutor(1) as pool, database.connect() as locking, locking.transaction():
        locking.execute("lock table kiket_analytics.analytics_settings")
        asked = pool.submit(measure, empty_ledger, timeout_seconds=0.2)
        refusal = asked.exception(timeout=10)  # While the lock is held.
        assert isinstance(refusal, PostgresUnreachable)
        assert "statement timeout" in str(refusal)
