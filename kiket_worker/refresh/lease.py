"""Keeping a lease: renewed from a thread and a connection of its own for as long as the attempt goes on."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from kiket_worker.dbt.engine import Cancellation
from kiket_worker.errors import KiketError, LeaseLost, PostgresUnreachable, RunCancelled
from kiket_worker.ledger import claims
from kiket_worker.ledger.claims import Claim
from kiket_worker.ledger.database import Connection, Database

_RENEWALS_PER_TTL = 3


@contextmanager
def kept(database: Database, claim: Claim, cancellation: Cancellation, *, ttl_seconds: float) -> Iterator[None]:
    """Renew the lease until the block ends; cancel what goes on when it is lost or the run's end is asked for.

    A lease that could not be renewed for its whole time counts as lost, whether or not anybody has taken it: this
    worker cannot know.
    """
    ended = threading.Event()
    keeper = threading.Thread(
        target=_keep, args=(database, claim, cancellation, ttl_seconds, ended), name=f"lease-{claim.schema_name}"
    )
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()


def _keep(
    database: Database, claim: Claim, cancellation: Cancellation, ttl_seconds: float, ended: threading.Event
) -> None:
    connection: Connection | None = None
    renewed_at = time.monotonic()
    while not ended.wait(ttl_seconds / _RENEWALS_PER_TTL):
        try:
            connection = connection or _autocommitting(database)
            asked_at = time.monotonic()
            if claims.renew(connection, claim, ttl_seconds):
                cancellation.cancel(RunCancelled(f"run {claim.run.run_id} was cancelled on request"))
            renewed_at = asked_at
        except (psycopg.Error, PostgresUnreachable):  # Whatever the reason is, the lease was not renewed.
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


def _autocommitting(database: Database) -> Connection:
    connection = database.connect()
    connection.autocommit = True
    return connection
