"""The query that workers are scaled by: runs that wait for a worker, on a real ledger, as the login that asks it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from kiket_worker.ledger import claims, outbox, runs
from kiket_worker.ledger.backlog import measure
from kiket_worker.ledger.database import Database, statement
from kiket_worker.ledger.runs import Request
from kiket_worker.tenants.schema import schema_name
from tests.support.installations import Installation


@pytest.fixture
def installation(sample_database: Any) -> Iterator[Installation]:
    """The four organisations of the sample, all due, and a password for the login that KEDA has."""
    with Installation.of(sample_database) as made:
        made.execute("alter role kiket_metrics password 'metrics'")
        yield made
        made.execute("alter role kiket_metrics password null")


@pytest.fixture
def waiting(installation: Installation) -> Callable[[], int]:
    def ask() -> int:
        with installation.connect("kiket_metrics", "metrics") as session:
            return int(session.execute(statement("due_backlog")).fetchone()["waiting"])

    return ask


def claim(ledger: Database, number: int, slug: str) -> None:
    run = runs.request(ledger, Request(number, slug))
    claims.claim(ledger, run.run_id, worker="w", ttl_seconds=60, schema_name=schema_name, end_sessions=lambda *_: 0)


def test_what_is_due_waits_from_the_tick_until_a_worker_begins(
    installation: Installation, waiting: Callable[[], int]
) -> None:
    assert waiting() == 0, "what no tick has queued, no worker could begin"
    queued = outbox.queue_due(installation.ledger, datetime.now(UTC))
    assert waiting() == len(queued) == measure(installation.ledger, timeout_seconds=5).due == 4
    (acme,) = installation.rows("select id from public.organizations where slug = 'acme'")
    claim(installation.ledger, acme["id"], "acme")
    assert waiting() == measure(installation.ledger, timeout_seconds=5).due == 3


def test_a_run_that_could_not_begin_does_not_ask_for_a_worker(
    installation: Installation, waiting: Callable[[], int]
) -> None:
    (acme,) = installation.rows("select id from public.organizations where slug = 'acme'")
    claim(installation.ledger, acme["id"], "acme")
    assert waiting() == 0
    runs.request(installation.ledger, Request(acme["id"], "acme"))
    assert waiting() == 0, "it waits behind the one that goes on"
    installation.execute("update kiket_analytics.leases set expires_at = now() - interval '1 s'")
    assert waiting() == 1, "a crashed run is taken over, and the other one waits on"


def test_a_retry_waits_for_its_time_first(installation: Installation, waiting: Callable[[], int]) -> None:
    (acme,) = installation.rows("select id from public.organizations where slug = 'acme'")
    claim(installation.ledger, acme["id"], "acme")
    installation.execute(
        "update kiket_analytics.leases set run_id = null, worker = null, expires_at = null where run_id is not null"
    )
    installation.execute("update kiket_analytics.runs set not_before = now() + interval '1 h'")
    assert waiting() == 0
    installation.execute("update kiket_analytics.runs set not_before = now() - interval '1 s'")
    assert waiting() == 1


def test_the_query_looks_at_runs_that_have_not_ended_only(installation: Installation) -> None:
    # However many have: ten thousand here, and one that waits.
    installation.execute(
        "insert into kiket_analytics.runs (organization_id, organization_slug, reason)"
        " select 1000 + n, 'o-' || n, 'manual' from generate_series(1, 10000) as n"
    )
    installation.execute(
        "update kiket_analytics.runs set status = 'skipped', finished_at = now(), error_kind = 'organization_gone',"
        " error_message = 'it is gone'"
    )
    runs.request(installation.ledger, Request(1, "acme"))
    installation.execute("analyze kiket_analytics.runs")
    plan = "\n".join(row["QUERY PLAN"] for row in installation.rows("explain " + statement("due_backlog").decode()))
    assert "Seq Scan on runs run" not in plan, plan
