"""Keeping a lease: renewed from a thread and a connection of its own for as long as the attempt goes on."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from kiket_worker.dbt.engine import Cancellation
from kiket_worker.errors import KiketError, LeaseLost, PostgresUnreachable, RunCancelled
from kiket_worker.ledger import attempts
from kiket_worker.ledger.claims import Claim
from kiket_worker.ledger.database import Connection, Database

_RENEWALS_PER_TTL = 3


@contextmanager
def kept(
    database: Database, claim: Claim, cancellation: Cancellation, *, claimed_at: float, ttl_seconds: float
) -> Iterator[None]:
    """Renew the lease until the block ends; cancel what goes on when it is lost or the run's end is asked for.

    `claimed_at` is a monotonic time before the claim. A lease that could not be renewed for its whole time counts as
    lost, whether or not anybody has taken it: this worker cannot know. The build is allowed to go on until then and no
    longer, counted from before each renewal was asked for, so that it ends before anybody may take over, also when
    this process is stopped or its connection hangs.
    """
    ended = threading.Event()
    cancellation.allow(claimed_at + ttl_seconds)
    keeper = threading.Thread(
        target=_keep,
        args=(database, claim, cancellation, claimed_at, ttl_seconds, ended),
        name=f"lease-{claim.schema_name}",
        daemon=True,
    )
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        # A connection that hangs is not waited for: the lease is given back, and a late renewal finds it so.
        keeper.join(ttl_seconds)


def _keep(
    database: Database,
    claim: Claim,
    cancellation: Cancellation,
    renewed_at: float,
    ttl_seconds: float,
    ended: threading.Event,
) -> None:
    connection: Connection | None = None
    while not ended.wait(ttl_seconds / _RENEWALS_PER_TTL):
        try:
            connection = connection or _connected(database, ttl_seconds)
            asked_at = time.monotonic()
            if _renew(database, connection, claim, ttl_seconds):
                cancellation.cancel(RunCancelled(f"run {claim.run.run_id} was cancelled on request"))
            renewed_at = asked_at
            cancellation.allow(renewed_at + ttl_seconds)
        except PostgresUnreachable:
            if connection:
                connection.close()
            connection = None
            if time.monotonic() - renewed_at > ttl_seconds:
                cancellation.cancel(LeaseLost(f"the lease of {claim.schema_name} could not be renewed in its time"))
        except KiketError as fault:
            cancellation.cancel(fault)
            break
    if connection:
        connection.close()


def _connected(database: Database, ttl_seconds: float) -> Connection | None:
    """A connection of the keeper's own; None where no new one is to be had."""
    try:
        connection = database.connect(timeout_seconds=ttl_seconds / _RENEWALS_PER_TTL)
    except PostgresUnreachable:
        return None
    connection.autocommit = True
    return connection


def _renew(database: Database, connection: Connection | None, claim: Claim, ttl_seconds: float) -> bool:
    if connection:
        return attempts.renew(connection, claim, ttl_seconds)
    # Postgres may refuse new sessions, and let those that are open go on: its password was changed, or all are taken.
    with database.transaction(timeout_seconds=ttl_seconds / _RENEWALS_PER_TTL) as pooled:
        return attempts.renew(pooled, claim, ttl_seconds)
