"""How far the ledger is behind: what is due and not begun, what goes on, and what stands still."""

from collections.abc import Mapping
from dataclasses import dataclass

from kiket_worker.ledger.database import Database, reading, statement, translated
from kiket_worker.ledger.organizations import PLAN_PARAMETERS


@dataclass(frozen=True)
class Backlog:
    """One look at the ledger.

    `due` are organisations that are due and that nobody refreshes, `oldest_due_seconds` how long the first of them has
    been so. `lag_seconds` is by plan how far beyond its interval the latest organisation is, refreshed now or not.
    `runs` are those that have not ended, by status. `tick_age_seconds` is None before the first tick.
    """

    due: int
    oldest_due_seconds: float
    lag_seconds: Mapping[str, float]
    runs: Mapping[str, int]
    leases_held: int
    leases_expired: int
    quarantined: int
    tick_age_seconds: float | None


def measure(database: Database, *, timeout_seconds: float) -> Backlog:
    """Look once, on a connection beside the pool, which may be busy. Raises as `Database.transaction` does."""
    query = reading("due", statement("backlog"))
    connection = database.connect(timeout_seconds=timeout_seconds)
    try:
        with translated(), connection:
            limit = str(round(1000 * timeout_seconds))
            connection.execute("select set_config('statement_timeout', %s, true)", [limit])
            row = connection.execute(query, PLAN_PARAMETERS | {"now": None}).fetchone()
    finally:
        connection.close()
    assert row is not None
    return Backlog(**row)


def waiting_runs(database: Database) -> int:
    """How many runs wait for a worker that could begin with them now: what workers are scaled by."""
    return int(database.rows(statement("due_backlog"))[0]["waiting"])
