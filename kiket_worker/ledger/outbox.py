"""The ledger as outbox: what is due becomes a queued run, and every queued run's message is published in time.

A run is a row before it is a message, so a message that is lost, or was never sent, is sent again from here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from kiket_worker.contract import Reason
from kiket_worker.ledger.database import Database, statement
from kiket_worker.ledger.organizations import PLAN_PARAMETERS
from kiket_worker.ledger.runs import RunId

# Rows that stay locked while their messages are published, one broker round trip each: a worker that a message wakes
# waits for its run's row that long.
_BATCH = 50


@dataclass(frozen=True)
class Waiting:
    """A run whose message is to be published."""

    run_id: RunId
    organization_slug: str
    reason: Reason


def queue_due(database: Database, now: datetime) -> list[Waiting]:
    """Queue a run for each organisation that is due at `now` and has no active run; give the new ones."""
    with database.transaction() as connection:
        # A second ticker waits here; its own look at what is due comes after the first one's commit.
        connection.execute("update kiket_analytics.ticker set ticked_at = %s", [now])
        rows = connection.execute(statement("queue_due_runs"), PLAN_PARAMETERS | {"now": now}).fetchall()
    return [Waiting(row["run_id"], row["organization_slug"], Reason.SCHEDULED) for row in rows]


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
    published = 0
    while True:
        sent: list[RunId] = []
        with database.transaction() as connection:
            rows = connection.execute(
                statement("runs_to_publish"),
                {
                    "republish_after_seconds": republish_after_seconds,
                    "run_limit": _BATCH,
                    "organization_id": organization_id,
                },
            ).fetchall()
            try:
                for row in rows:
                    publish(Waiting(row["run_id"], row["organization_slug"], Reason(row["reason"])))
                    sent.append(row["run_id"])
            finally:
                connection.execute(
                    "update kiket_analytics.runs set published_at = now() where run_id = any(%s)", [sent]
                )
                connection.commit()
        published += len(sent)
        if len(rows) < _BATCH:
            return published


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
