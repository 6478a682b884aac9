"""Sessions of tenants that no refresh looks after, as dashboards' are: ended when they take longer than they may."""

from kiket_worker import events
from kiket_worker.ledger.database import Database
from kiket_worker.tenants import roles
from kiket_worker.tenants.isolation import PATIENCE_SECONDS
from kiket_worker.tenants.provisioning import Limits
from kiket_worker.tenants.sessions import end_unattended_sessions


def sweep(database: Database, limits: Limits) -> None:
    """Look once, and log each session that was ended. Raises `RolesNotSetUp` and `PostgresUnreachable`."""
    roles.check(database)
    with database.transaction() as connection:
        overruns = end_unattended_sessions(
            connection,
            statement_seconds=limits.statement_seconds + PATIENCE_SECONDS,
            idle_seconds=limits.idle_seconds + PATIENCE_SECONDS,
        )
    for overrun in overruns:
        events.TENANT_SESSION_TERMINATED.log(
            role=overrun.role, overrun=overrun.kind, duration_seconds=round(overrun.seconds, 3)
        )
