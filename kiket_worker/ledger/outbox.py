"""The ledger as outbox: what is due becomes a queued run, and every queued run's message is published in time.

A run is a row before it is a message, so a message that is lost, or was never sent, is sent again from here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kiket_worker.contract import Reason
from kiket_worker.ledger.database import Database, reading, statement
from kiket_worker.ledger.organizations import PLAN_PARAMETERS
from kiket_worker.ledger.runs import RunId

# Rows that stay locked while their messages are published, one broker round trip each: a worker that a message wakes
# waits for its run's row that long.
_BATCH = 50
# Runs that one look at all that are active gives: after an outage it would be most of the work to look for each batch.
_LISTED = 2000

# Organisations whose plan is compared at each tick with what the index of the due ones knows of it: all of them in an
# installation of that size, and the next ones in a larger one.
COMPARED_AT_ONCE = 10_000


@dataclass(frozen=True)
class Waiting:
    """A run whose message is to be published."""

    run_id: RunId
    organization_slug: str
    reason: Reason


def queue_due(database: Database, now: datetime) -> list[Waiting]:
    """Queue a run for each organisation that is due at `now` and has no active run; give the new ones."""
    _compare_plans(database)
    with database.transaction() as connection:
        # A second ticker waits here; its own look at what is due comes after the first one's commit.
        connection.execute("update kiket_analytics.ticker set ticked_at = %s", [now])
        query = reading("due", statement("queue_due_runs"))
        rows = connection.execute(query, PLAN_PARAMETERS | {"now": now}).fetchall()
    return [Waiting(row["run_id"], row["organization_slug"], Reason.SCHEDULED) for row in rows]


def _compare_plans(database: Database) -> None:
    """Tell the settings of plans that have changed: those of one batch, or of all where none was ever compared.

    In transactions of their own, as they lock rows of settings.
    """
    noted = COMPARED_AT_ONCE
    while noted == COMPARED_AT_ONCE:
        with database.transaction() as connection:
            # One ticker after the other; the second goes on where the first has stopped.
            connection.execute("select from kiket_analytics.ticker for update")
            (row,) = connection.execute(
                statement("compare_plans"), PLAN_PARAMETERS | {"limit": COMPARED_AT_ONCE}
            ).fetchall()
            connection.execute("update kiket_analytics.ticker set compared_to = %s", [row["compared_to"]])
        noted = row["noted"]


def publish_waiting(
    database: Database,
    publish: Callable[[Waiting], None],
    *,
    republish_after_seconds: float,
    organization_id: int | None = None,
) -> int:
    """Publish each run, of one organisation or of all, that waits for its message; give how many there were.

    The most urgent goes first. An error of `publish` ends it: what was published by then is marked so, the rest waits
    for the next call.
    """
    wanted = {"republish_after_seconds": republish_after_seconds, "organization_id": organization_id}
    every = wanted | {"run_ids": None, "run_limit": _LISTED}
    published, listed = 0, _LISTED
    while listed == _LISTED:
        rows = database.rows(statement("runs_to_publish"), every, prepare=False)
        run_ids, listed = [row["run_id"] for row in rows], len(rows)
        for start in range(0, listed, _BATCH):
            batch = wanted | {"run_ids": run_ids[start : start + _BATCH], "run_limit": _BATCH}
            published += _publish_batch(database, publish, batch)
    return published


def _publish_batch(database: Database, publish: Callable[[Waiting], None], batch: dict[str, Any]) -> int:
    """Publish those of a few runs that still wait, and that no other ticker is publishing; give how many."""
    sent: list[RunId] = []
    query = statement("runs_to_publish") + b"for update of run skip locked"
    with database.transaction() as connection:
        rows = connection.execute(query, batch, prepare=False).fetchall()
        try:
            for row in rows:
                publish(Waiting(row["run_id"], row["organization_slug"], Reason(row["reason"])))
                sent.append(row["run_id"])
        finally:
            connection.execute("update kiket_analytics.runs set published_at = now() where run_id = any(%s)", [sent])
            connection.commit()
    return len(sent)


def publish_of(database: Database, publish: Callable[[Waiting], None], organization_id: int) -> None:
    """Publish the run that waits for this organisation, if one does, without waiting for a tick."""
    rows = database.rows(statement("queued_run_of"), {"organization_id": organization_id})
    for row in rows:
        publish(Waiting(row["run_id"], row["organization_slug"], Reason(row["reason"])))
        with database.transaction() as connection:
            # Only if it still waits: a worker may have been so quick that the run has ended, and will not change.
            connection.execute(
                "update kiket_analytics.runs set published_at = now() where run_id = %s and status = 'queued'",
                [row["run_id"]],
            )
