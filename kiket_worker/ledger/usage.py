"""Usage of organisations, added up from the usage events."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from kiket_worker.ledger.database import Database, statement


@dataclass(frozen=True)
class DailyUsage:
    """What one metric amounts to on one day (UTC)."""

    day: date
    metric: str
    unit: str
    quantity: Decimal


def daily(
    database: Database, organization_id: int, *, start_at: datetime | None, end_at: datetime | None
) -> list[DailyUsage]:
    """Usage by day and metric from `start_at` (inclusive) to `end_at` (exclusive), newest day first."""
    parameters = {"organization_id": organization_id, "start_at": start_at, "end_at": end_at}
    return [DailyUsage(**row) for row in database.rows(statement("usage_totals"), parameters)]
