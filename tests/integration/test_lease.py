"""Keeping a lease against a real Postgres: renewed in time, given up where it is lost, deaf to a passing fault."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import psycopg
import pytest

from kiket_worker.dbt.engine import Cancellation
from kiket_worker.errors import KiketError, PostgresUnreachable
from kiket_worker.ledger import claims, runs
from kiket_worker.ledger.claims import Claim
from kiket_worker.ledger.database import Connection, Database
from kiket_worker.refresh.lease import kept
from kiket_worker.tenants.schema import schema_name
from kiket_worker.tenants.sessions import SessionsNotEnded, application_name, end_named_sessions
from tests.support.dbt_scripts import until
from tests.support.refreshes import Refreshes
from tests.support.sessions import lives


class Unreliable:
    """The ledger's database, whose connections can be refused, new ones or all; it remembers those that it gave."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.refused = 0
        self.refusing = False
        self.refusing_new = False
        self.given: list[Connection] = []

    def connect(self, *, timeout_seconds: float = 10) -> Connection:
        if self.refusing or self.refusing_new:
            self.refused += 1
            raise PostgresUnreachable("refused")
        self.given.append(self._database.connect())
        return self.given[-1]

    @contextmanager
    def transaction(self, *, timeout_seconds: float) -> Iterator[Connection]:
        if self.refusing:
            raise PostgresUnreachable("no connection is left")
        with self._database.transaction(timeout_seconds=timeout_seconds) as connection:
            yield connection


@pytest.fixture
def claim(refreshes: Refreshes) -> Claim:
    claimed = claims.claim(
        refreshes.ledger,
        refreshes.request(),
        worker="here",
        ttl_seconds=1,
        schema_name=schema_name,
        end_sessions=lambda connection, run_id, _: end_named_sessions(connection, run_id),
    )
    assert isinstance(claimed, Claim)
    return claimed


@pytest.fixture
def unreliable(ledger: Database) -> Unreliable:
    return Unreliable(ledger)


@pytest.fixture
def cancellation() -> Cancellation:
    return Cancellation()


Keep = Callable[[float], Any]


@pytest.fixture
def keep(unreliable: Unreliable, claim: Claim, cancellation: Cancellation) -> Keep:
    @contextmanager
    def keep(ttl_seconds: float) -> Iterator[None]:
        with kept(
            cast(Database, unreliable), claim, cancellation, claimed_at=time.monotonic(), ttl_seconds=ttl_seconds
        ):
            yield

    return keep


def expiry(refreshes: Refreshes) -> Any:
    lease = refreshes.lease()
    assert lease is not None
    return lease[2]


def until_renewed(refreshes: Refreshes) -> None:
    before = expiry(refreshes)
    until(lambda: expiry(refreshes) > before, "the lease to be renewed")


def until_cancelled(cancellation: Cancellation) -> KiketError:
    return cast(KiketError, until(lambda: cancellation.reason, "the cancellation"))


def test_a_lease_is_renewed_until_the_block_ends(refreshes: Refreshes, keep: Keep, unreliable: Unreliable) -> None:
    with keep(0.3):
        until_renewed(refreshes)
        until_renewed(refreshes)
    assert [connection.closed for connection in unreliable.given] == [True]


def test_the_keeper_ends_with_the_block_even_if_the_block_fails(keep: Keep, unreliable: Unreliable) -> None:
    def block() -> None:
        with keep(0.03):
            until(lambda: unreliable.given, "the keeper to connect")
            raise RuntimeError("of the block")

    with pytest.raises(RuntimeError, match="of the block"):
        block()
    assert [connection.closed for connection in unreliable.given] == [True]


def test_a_lease_of_a_higher_epoch_is_lost(refreshes: Refreshes, keep: Keep, cancellation: Cancellation) -> None:
    with keep(0.3):
        refreshes.execute("update kiket_analytics.leases set epoch = epoch + 1, worker = 'thief'")
        lost_at = expiry(refreshes)
        assert until_cancelled(cancellation).kind == "lease_lost"
        assert expiry(refreshes) == lost_at


def test_a_request_to_cancel_is_passed_on_and_the_lease_kept(
    refreshes: Refreshes, keep: Keep, claim: Claim, cancellation: Cancellation
) -> None:
    with keep(0.3):
        runs.cancel(refreshes.ledger, claim.run.run_id)
        assert until_cancelled(cancellation).kind == "run_cancelled"
        until_renewed(refreshes)


def test_a_broken_connection_is_replaced(
    refreshes: Refreshes, keep: Keep, unreliable: Unreliable, cancellation: Cancellation
) -> None:
    with keep(1.5):
        until(lambda: unreliable.given, "the keeper to connect")
        refreshes.rows("select pg_terminate_backend(%s, 5000)", unreliable.given[0].info.backend_pid)
        until(lambda: len(unreliable.given) == 2, "the keeper to connect again")
        until_renewed(refreshes)
    assert cancellation.reason is None


def test_a_lease_that_cannot_be_renewed_in_its_time_counts_as_lost(
    keep: Keep, unreliable: Unreliable, cancellation: Cancellation
) -> None:
    unreliable.refusing = True
    with keep(0.3):
        fault = until_cancelled(cancellation)
    assert fault.kind == "lease_lost"
    assert "could not be renewed" in str(fault)
    assert unreliable.refused >= 3


def test_a_refused_connection_within_the_leases_time_does_no_harm(
    refreshes: Refreshes, keep: Keep, unreliable: Unreliable, cancellation: Cancellation
) -> None:
    unreliable.refusing = True
    with keep(3):
        until(lambda: unreliable.refused, "a refusal")
        unreliable.refusing = False
        until_renewed(refreshes)
    assert cancellation.reason is None


def test_where_new_sessions_are_refused_those_of_the_pool_renew_the_lease(
    refreshes: Refreshes, keep: Keep, unreliable: Unreliable, cancellation: Cancellation
) -> None:
    unreliable.refusing_new = True
    with keep(0.3):
        until_renewed(refreshes)
        until_renewed(refreshes)
        assert unreliable.given == []
        unreliable.refusing_new = False
        until(lambda: unreliable.given, "the keeper to connect")
        until_renewed(refreshes)
    assert cancellation.reason is None


def test_any_error_of_the_database_counts_as_not_renewed(
    refreshes: Refreshes, keep: Keep, cancellation: Cancellation
) -> None:
    refreshes.execute("alter table kiket_analytics.leases rename to elsewhere")
    with keep(0.3):
        assert until_cancelled(cancellation).kind == "lease_lost"


# The sessions that a takeover ends.


def connect(refreshes: Refreshes, name: str, **options: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(refreshes.url, application_name=name, autocommit=True, **options)


def test_every_session_of_a_run_is_ended_and_no_other(refreshes: Refreshes, claim: Claim) -> None:
    name = application_name(claim.run.run_id)
    own = [connect(refreshes, name), connect(refreshes, name)]
    other = connect(refreshes, f"{name}0")
    with refreshes.ledger.transaction() as connection:
        assert end_named_sessions(connection, claim.run.run_id) == 2
        assert end_named_sessions(connection, claim.run.run_id) == 0
    assert [lives(session) for session in [*own, other]] == [False, False, True]
    other.close()


def test_sessions_that_may_not_be_ended_are_told_with_the_remedy(refreshes: Refreshes, claim: Claim) -> None:
    refreshes.execute(f"create role weak_{claim.run.run_id.hex} login password 'weak'")
    weak = connect(
        refreshes, "weak", user=f"weak_{claim.run.run_id.hex}", password="weak", row_factory=psycopg.rows.dict_row
    )
    with connect(refreshes, application_name(claim.run.run_id)) as session:
        with pytest.raises(SessionsNotEnded, match="pg_signal_backend"):
            end_named_sessions(weak, claim.run.run_id)
        assert lives(session)
    weak.close()
    refreshes.execute(f"drop role weak_{claim.run.run_id.hex}")
