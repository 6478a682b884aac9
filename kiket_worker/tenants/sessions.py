"""The database sessions of a run, found by the name under which dbt connects, and ended from outside."""

from uuid import UUID

from kiket_worker.errors import KiketError
from kiket_worker.ledger.database import Connection

_TERMINATION_MILLISECONDS = 5000


def application_name(run_id: UUID) -> str:
    """The `application_name` of every session that dbt opens for the run."""
    return f"kiket-run-{run_id}"


class SessionsNotEnded(KiketError):
    """Sessions of an earlier attempt go on, so its schema cannot be written yet."""

    kind = "sessions_not_ended"
    retryable = True


def end_sessions(connection: Connection, run_id: UUID) -> int:
    """End every session of the run and wait until they are gone; give how many there were.

    A killed dbt does not end its statement: Postgres goes on with it until it writes to the closed connection.
    Raises `SessionsNotEnded`.
    """
    rows = connection.execute(
        "select pg_terminate_backend(pid, %s) as ended from pg_stat_activity"
        " where application_name = %s and pid <> pg_backend_pid()",
        [_TERMINATION_MILLISECONDS, application_name(run_id)],
    ).fetchall()
    if not all(row["ended"] for row in rows):
        raise SessionsNotEnded(f"database sessions of run {run_id} did not end; they may write to its schema still")
    return len(rows)
