"""Usage of organisations, added up from the usage events."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

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


class Period(StrEnum):
    """What usage is added up by. Weeks begin on Mondays."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True)
class PeriodUsage:
    """What one metric amounts to in one period, which begins at `start` (UTC)."""

    start: date
    metric: str
    unit: str
    quantity: Decimal


@dataclass(frozen=True)
class Costly:
    """What an organisation has cost in a month. `quantity` is of all metrics that have a price."""

    organization_id: int
    slug: str
    name: str
    quantity: Decimal
    cents: Decimal


def series(
    database: Database, organization_id: int | None, *, first_day: date, last_day: date, period: Period
) -> list[PeriodUsage]:
    """Usage of one organisation, or of all together, from `first_day` (inclusive) to `last_day` (exclusive)."""
    parameters = {"first_day": first_day, "last_day": last_day, "period": period}
    if organization_id is None:
        rows = database.rows(statement("usage_of_all"), parameters)
    else:
        rows = database.rows(statement("usage_of_organization"), parameters | {"organization_id": organization_id})
    return [PeriodUsage(**row) for row in rows]


def costliest(database: Database, prices: Mapping[str, Decimal], *, month: date, limit: int) -> list[Costly]:
    """Whose usage costs most in the month that begins at `month`, by `prices` in cents for a unit of each metric."""
    parameters = {
        "month": month,
        "metrics": list(prices),
        "cents": list(prices.values()),
        "organizations_limit": limit,
    }
    return [Costly(**row) for row in database.rows(statement("costliest_organizations"), parameters)]
