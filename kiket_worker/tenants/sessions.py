"""The database sessions of a run, found by the name under which dbt connects, and ended from outside."""

from uuid import UUID

import psycopg
from psycopg import sql

from kiket_worker.errors import SessionsNotEnded
from kiket_worker.ledger.database import Connection

_TERMINATION_MILLISECONDS = 5000


def application_name(run_id: UUID) -> str:
    """The `application_name` of every session that dbt opens for the run."""
    return f"kiket-run-{run_id}"


def end_sessions(connection: Connection, run_id: UUID) -> int:
    """End every session of the run and wait until they are gone; give how many there were.

    A killed dbt does not end its statement: Postgres goes on with it until it writes to the closed connection.
    Raises `SessionsNotEnded`.
    """
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


def _look(connection: Connection, column: sql.Composable, name: str) -> int:
    # Within a transaction, Postgres shows the sessions as they were at the first look.
    connection.execute("select pg_stat_clear_snapshot()")
    query = sql.SQL("select {} from pg_stat_activity where application_name = %s and pid <> pg_backend_pid()")
    return len(connection.execute(query.format(column), [name]).fetchall())
