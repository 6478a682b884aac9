"""The history of the shared schema: when it was built, from what, and what became of it."""

from dataclasses import dataclass
from typing import NewType
from uuid import UUID

from kiket_worker.errors import KiketError
from kiket_worker.ledger.database import Database, statement, storable

RefreshId = NewType("RefreshId", UUID)


@dataclass(frozen=True)
class Freshness:
    """How the shared schema stands by the database's clock. `tried_lately`: the newest try failed a moment ago."""

    is_built: bool
    is_due: bool
    tried_lately: bool


def freshness(
    database: Database, schema: str, *, bundle_digest: str, interval_hours: int, retry_seconds: float
) -> Freshness:
    """Whether the schema was ever built, and whether it is due: never built, of another bundle, or too long ago."""
    parameters = {
        "schema_name": schema,
        "bundle_digest": bundle_digest,
        "interval_hours": interval_hours,
        "retry_seconds": retry_seconds,
    }
    row = database.rows(statement("shared_freshness"), parameters)[0]
    return Freshness(**row)


def begin(database: Database, schema: str, *, bundle_digest: str, epoch: int, worker: str) -> RefreshId:
    """Write down that a worker, which holds the schema's lease, begins to build it."""
    parameters = {"schema_name": schema, "bundle_digest": bundle_digest, "lease_epoch": epoch, "worker": worker}
    return RefreshId(database.rows(statement("begin_shared_refresh"), parameters)[0]["refresh_id"])


def end(database: Database, refresh_id: RefreshId, error: KiketError | None, artifacts_location: str | None) -> None:
    """Write down how it ended."""
    parameters = {
        "refresh_id": refresh_id,
        "outcome": "failed" if error else "succeeded",
        "error_kind": error.kind if error else None,
        "error_message": (storable(str(error)) or error.kind) if error else None,
        "artifacts_location": artifacts_location,
    }
    with database.transaction() as connection:
        connection.execute(statement("end_shared_refresh"), parameters)
