"""What an organisation has used lately, by metric and by day, and what that costs."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from kiket_worker.console.cost import cents_of
from kiket_worker.ledger import usage
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.usage import Period

DAYS = 30


@dataclass(frozen=True)
class MetricUsage:
    """One metric in one unit. `cents` is None for a metric without a price, `by_day` has no days without any."""

    metric: str
    unit: str
    quantity: Decimal
    cents: float | None
    by_day: Mapping[date, Decimal]


def last_days(now: datetime) -> list[date]:
    """The days that are looked at, today (UTC) the last of them."""
    today = now.astimezone(UTC).date()
    return [today - timedelta(days=number) for number in reversed(range(DAYS))]


def used(
    database: Database, organization_id: int, days: list[date], prices: Mapping[str, Decimal]
) -> list[MetricUsage]:
    """What was used on these days, the costliest first."""
    after = days[-1] + timedelta(days=1)
    by_metric: dict[tuple[str, str], dict[date, Decimal]] = {}
    for one in usage.series(database, organization_id, first_day=days[0], last_day=after, period=Period.DAY):
        by_metric.setdefault((one.metric, one.unit), {})[one.start] = one.quantity
    found = []
    for (metric, unit), by_day in by_metric.items():
        quantity = sum(by_day.values(), Decimal(0))
        found.append(MetricUsage(metric, unit, quantity, cents_of(quantity, metric, prices), by_day))
    return sorted(found, key=lambda one: (-(one.cents or 0), -one.quantity, one.metric, one.unit))
