"""Runs put back into a ledger that was restored from a backup, as far as their artifacts say that they succeeded."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

import psycopg

from kiket_worker.ledger.database import Database, statement
from kiket_worker.ledger.runs import RunModel

# No lease was ever held under it: epochs begin at 1.
_EPOCH = 0


@dataclass(frozen=True)
class Evidence:
    """What a run's artifacts say of it: enough to record it and its usage as they were."""

    run_id: UUID
    organization_id: int
    organization_slug: str
    attempt: int
    queued_at: datetime
    archived_at: datetime
    location: str
    index_sha256: str
    models: Sequence[RunModel]


def put_back(database: Database, evidence: Evidence) -> bool:
    """Record a run as succeeded, with its usage events; False while another run of its organisation is active.

    One transaction, through every state that a run has. A run that the ledger has by now is left as it is.
    """
    run_id = evidence.run_id
    try:
        with database.transaction() as connection:
            row = connection.execute(
                statement("put_back"),
                {
                    "run_id": run_id,
                    "organization_id": evidence.organization_id,
                    "organization_slug": evidence.organization_slug,
                    "queued_at": evidence.queued_at,
                },
            ).fetchone()
            if row is None:
                return False
            fenced = {"run_id": run_id, "lease_epoch": _EPOCH}
            connection.execute(
                "update kiket_analytics.runs set status = 'running', attempt = %s, lease_epoch = %s,"
                " worker = 'recovery', started_at = %s where run_id = %s",
                [evidence.attempt, _EPOCH, evidence.queued_at, run_id],
            )
            models = json.dumps([asdict(model) for model in evidence.models])
            connection.execute(statement("record_models"), fenced | {"models": models})
            connection.execute(statement("mark_built"), fenced)
            connection.execute(
                statement("mark_archived"),
                fenced | {"location": evidence.location, "index_sha256": evidence.index_sha256},
            )
            connection.execute(statement("mark_succeeded"), fenced)
            connection.execute(statement("record_usage"), {"run_id": run_id, "recorded_at": evidence.archived_at})
            connection.execute(
                "update kiket_analytics.analytics_settings set last_run_at = greatest(last_run_at, %s)"
                " where organization_id = %s",
                [evidence.queued_at, evidence.organization_id],
            )
    except psycopg.errors.UniqueViolation:
        return False  # Somebody has asked for a run of the organisation in this moment.
    return True
