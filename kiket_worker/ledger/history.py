"""What an organisation's last runs tell."""

from dataclasses import dataclass

from kiket_worker.ledger.database import Database, statement

_RUNS = 20


@dataclass(frozen=True)
class SlowModel:
    """A model over the last runs that succeeded. `rows_affected` is of the newest of them."""

    model_id: str
    runs: int
    mean_seconds: float
    most_seconds: float
    rows_affected: int | None


def slowest_models(database: Database, organization_id: int, limit: int = 10) -> list[SlowModel]:
    """The models that take longest, in the last twenty runs that succeeded."""
    parameters = {"organization_id": organization_id, "run_limit": _RUNS, "model_limit": limit}
    return [SlowModel(**row) for row in database.rows(statement("slowest_models"), parameters)]
