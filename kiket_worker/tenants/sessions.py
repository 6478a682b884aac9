"""The database sessions of a run, ended from outside.

They are found by the tenant's role, or by the run's name where one role is shared.
"""

from dataclasses import dataclass
from uuid import UUID

import psycopg
from psycopg import sql

from kiket_worker.errors import SessionsNotEnded
from kiket_worker.ledger.database import Connection

_TERMINATION_MILLISECONDS = 5000


@dataclass(frozen=True)
class Overrun:
    """A session that was ended because its statement took too long, or because it idled in a transaction."""

    role: str
    kind: str
    seconds: float


def application_name(run_id: UUID) -> str:
    """The `application_name` of every session that dbt opens for the run."""
    return f"kiket-run-{run_id}"


def end_tenant_sessions(connection: Connection, schema: str) -> int:
    """End every session of a tenant's own role and wait until they are gone; give how many there were.

    A killed dbt does not end its statement: Postgres goes on with it until it writes to the closed connection. The role
    is the login's and cannot be changed by it, so no session hides. Raises `SessionsNotEnded`.
    """
    row = connection.execute("select kiket_analytics.end_tenant_sessions(%s) as ended", [schema]).fetchone()
    if row is None or row["ended"] < 0:
        raise SessionsNotEnded(f"database sessions of role {schema} did not end; they may write to its schema still")
    return int(row["ended"])


def end_overrunning_sessions(
    connection: Connection, schema: str, *, statement_seconds: float, idle_seconds: float
) -> list[Overrun]:
    """End the sessions of a tenant's role, and of its reader, that take longer than they may; give what was ended."""
    return _overruns(
        connection,
        b"select * from kiket_analytics.end_overrunning_sessions(%s, %s, %s)",
        [schema, statement_seconds, idle_seconds],
    )


def end_unattended_sessions(connection: Connection, *, statement_seconds: float, idle_seconds: float) -> list[Overrun]:
    """The same for all tenants that are not being refreshed: a refresh looks after its own, and more often."""
    return _overruns(
        connection,
        b"select * from kiket_analytics.end_unattended_sessions(%s, %s)",
        [statement_seconds, idle_seconds],
    )


def end_named_sessions(connection: Connection, run_id: UUID) -> int:
    """The same as `end_tenant_sessions` where one role is shared: by the run's name, which a model may have changed."""
    name = application_name(run_id)
    try:
        found = _look(connection, sql.SQL("pg_terminate_backend(pid, {})").format(_TERMINATION_MILLISECONDS), name)
    except psycopg.errors.InsufficientPrivilege as fault:
        raise SessionsNotEnded(
            f"database sessions of run {run_id} may not be ended by the role of DATABASE_URL ({fault}); grant it "
            "membership in the role of DBT_USER, or in pg_signal_backend"
        ) from fault
    # Looked at again, because Postgres gives the same answer for one that stays and one that was gone already.
    if found and _look(connection, sql.SQL("pid"), name):
        raise SessionsNotEnded(f"database sessions of run {run_id} did not end; they may write to its schema still")
    return found


def _overruns(connection: Connection, query: bytes, parameters: list[object]) -> list[Overrun]:
    rows = connection.execute(query, parameters).fetchall()
    return [Overrun(row["login"], row["overrun"], row["seconds"]) for row in rows]


def _look(connection: Connection, column: sql.Composable, name: str) -> int:
    # Within a transaction, Postgres shows the sessions as they were at the first look.
    connection.execute("select pg_stat_clear_snapshot()")
    query = sql.SQL("select {} from pg_stat_activity where application_name = %s and pid <> pg_backend_pid()")
    return len(connection.execute(query.format(column), [name]).fetchall())
