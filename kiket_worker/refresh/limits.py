"""Keeping a tenant within its limits while dbt builds: looked at from outside, by a session of the worker's own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context

from kiket_worker import events
from kiket_worker.errors import KiketError, PostgresUnreachable, QuotaExceeded, TenantOverran
from kiket_worker.ledger.database import Connection
from kiket_worker.refresh.attempt import Attempt
from kiket_worker.tenants.isolation import size_bytes

_INTERVAL_SECONDS = 1.0
# While it builds, dbt keeps the old relation beside the new one.
WHILE_BUILDING = 2
_PATIENCE_SECONDS = 10.0


@contextmanager
def kept_within(attempt: Attempt) -> Iterator[None]:
    """End what takes too long or too much room, and cancel the attempt, until the block ends.

    What a statement writes is seen when it commits; before, the limit on its time bounds it.
    """
    ended = threading.Event()
    watcher = threading.Thread(
        # What it logs belongs to the attempt's trace.
        target=copy_context().run,
        args=(_watch, attempt, ended),
        daemon=True,
        name=f"limits-{attempt.claim.schema_name}",
    )
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        # A session that hangs is not waited for: what it finds is found again, or too late for this attempt.
        watcher.join(_PATIENCE_SECONDS)


def check_quota(attempt: Attempt) -> None:
    """Raise `QuotaExceeded` if the tenant's relations take more room than they may, once dbt has ended."""
    with attempt.services.database.transaction() as connection:
        _check_size(attempt, connection, patience_seconds=_PATIENCE_SECONDS)


def _watch(attempt: Attempt, ended: threading.Event) -> None:
    while not ended.wait(_INTERVAL_SECONDS):
        try:
            _look(attempt)
        except PostgresUnreachable:
            continue  # A relation that dbt has locked just now, or no Postgres: the next look tells.
        except KiketError as fault:
            attempt.cancellation.cancel(fault)
            return


def _look(attempt: Attempt) -> None:
    isolation, schema = attempt.services.isolation, attempt.claim.schema_name
    with attempt.services.database.transaction() as connection:
        overruns = isolation.end_overruns(connection, schema)
    for overrun in overruns:
        seconds = round(overrun.seconds, 3)
        if overrun.role == schema:
            attempt.log(events.TENANT_SESSION_ENDED, overrun=overrun.kind, duration_seconds=seconds)
        else:
            events.TENANT_SESSION_TERMINATED.log(role=overrun.role, overrun=overrun.kind, duration_seconds=seconds)
    # A dashboard that takes too long is not the run's fault.
    if own := [overrun for overrun in overruns if overrun.role == schema]:
        what = "a statement ran" if own[0].kind == "statement" else "a transaction idled"
        variable = "STATEMENT" if own[0].kind == "statement" else "IDLE"
        raise TenantOverran(
            f"{what} for {own[0].seconds:.0f} seconds, longer than KIKET_TENANT_{variable}_SECONDS allows, and "
            f"{schema}'s session was ended"
        )
    with attempt.services.database.transaction() as connection:
        _check_size(attempt, connection, patience_seconds=0.2, allowance=WHILE_BUILDING)


def _check_size(attempt: Attempt, connection: Connection, *, patience_seconds: float, allowance: int = 1) -> None:
    quota_megabytes = attempt.services.isolation.limits.quota_megabytes
    size = size_bytes(connection, attempt.claim.schema_name, patience_seconds=patience_seconds)
    if size > allowance * quota_megabytes * 1024 * 1024:
        attempt.log(events.TENANT_QUOTA_EXCEEDED, bytes=size, quota_bytes=quota_megabytes * 1024 * 1024)
        raise QuotaExceeded(
            f"the relations of {attempt.claim.schema_name} take {size / 2**20:.0f} MiB, and it may have "
            f"{quota_megabytes} (KIKET_TENANT_QUOTA_MEGABYTES): make its models smaller, or raise the quota"
        )
