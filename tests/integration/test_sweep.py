"""Sessions of tenants that nobody refreshes: the ticker ends those that take longer than they may."""

import io
import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from kiket_worker.schedule.sweep import sweep
from kiket_worker.telemetry.logs import set_up_logs
from kiket_worker.tenants.provisioning import Candidate, Limits
from tests.support.dbt_scripts import until
from tests.support.installations import Installation
from tests.support.sessions import lives
from tests.support.tenants import settings_of

ACME, HARBOR = Candidate(1, "acme"), Candidate(2, "blue-harbor")


@pytest.fixture
def installation(sample_database: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    """Two tenants; nothing is waited for beyond the limit."""
    monkeypatch.setattr("kiket_worker.schedule.sweep.PATIENCE_SECONDS", 0)
    with Installation.of(sample_database) as made:
        for candidate in (ACME, HARBOR):
            made.provision(candidate)
        yield made


def idling(session: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """A session that has lifted its time-outs and holds a transaction open."""
    session.execute("set idle_in_transaction_session_timeout = 0; set transaction_timeout = 0")
    session.execute("begin")
    session.execute("select 1")
    return session


def limits(installation: Installation, **seconds: int) -> Limits:
    return Limits.from_settings(settings_of(installation.ledger_url, **seconds))


def test_a_session_that_idles_in_a_transaction_is_ended_and_named(
    installation: Installation,
) -> None:
    log = io.StringIO()
    set_up_logs(log)
    short = limits(installation, KIKET_TENANT_IDLE_SECONDS=1)
    with idling(installation.reader("acme")) as reader, installation.tenant("blue-harbor") as other:
        other.execute("select 1")
        sweep(installation.ledger, limits(installation))
        assert installation.rows("select from pg_stat_activity where usename = 'analytics_ro_acme'")
        until(
            lambda: (
                sweep(installation.ledger, short)
                or not installation.rows("select from pg_stat_activity where usename = 'analytics_ro_acme'")
            ),
            "the session is ended",
        )
        assert not lives(reader)
        assert lives(other), "it does nothing"
    (event,) = [json.loads(line) for line in log.getvalue().splitlines()]
    assert (event["event"], event["role"], event["overrun"]) == (
        "tenant.session_terminated",
        "analytics_ro_acme",
        "idle",
    )
    assert event["duration_seconds"] >= 1


def test_a_tenant_that_is_being_refreshed_is_left_to_its_worker(installation: Installation) -> None:
    held = installation.lease(ACME)
    short = limits(installation, KIKET_TENANT_IDLE_SECONDS=1)
    with idling(installation.tenant("acme")) as session:
        old = "select from pg_stat_activity where usename = 'analytics_org_acme' and now() - state_change > '1.5 s'"
        until(lambda: installation.rows(old), "the session has idled for longer than it may")
        sweep(installation.ledger, short)
        assert lives(session)
        installation.release(ACME, held)
        session.execute("select 1")
        until(lambda: installation.rows(old), "it has again")
        sweep(installation.ledger, short)
        assert not lives(session)


def test_a_dashboards_transaction_of_short_statements_is_ended_too(installation: Installation) -> None:
    short = limits(installation, KIKET_TENANT_STATEMENT_SECONDS=1, KIKET_TENANT_IDLE_SECONDS=1)
    with idling(installation.reader("acme")) as reader, idling(installation.tenant("acme")) as owner:

        def is_ended() -> bool:
            owner.execute("select 1")
            sweep(installation.ledger, short)
            return not lives(reader)

        until(is_ended, "the transaction is ended, though it never idles for long")
        assert lives(owner), "a refresh bounds its own"
