"""Usage and what it costs, as JSON or as CSV."""

import csv
import io
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from kiket_worker.console.access import Caller, ServicesOf, visible_id
from kiket_worker.console.api.documents import Document
from kiket_worker.console.api.openapi import problems
from kiket_worker.console.cost import cents_of
from kiket_worker.console.moments import Day, Moment
from kiket_worker.console.negotiation import prefers_csv
from kiket_worker.ledger import usage
from kiket_worker.ledger.usage import Period, PeriodUsage

router = APIRouter(prefix="/usage", tags=["usage"])

_CSV = "text/csv"
_USUAL_DAYS = 30
# Spreadsheets take what begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Asked(BaseModel):
    """Whose usage, of when, and how it is grouped."""

    model_config = ConfigDict(extra="forbid")

    organization: Annotated[
        str | None, Field(max_length=255, description="Whose, by slug; all together unless it is given.")
    ] = None
    start_at: Annotated[
        Moment | Day | None, Field(description="From this day on (UTC); 30 days before `end_at` unless given.")
    ] = None
    end_at: Annotated[
        Moment | Day | None,
        Field(description="Up to this moment, not included; to the end of its day (UTC). Unless given: of today."),
    ] = None
    group_by: Annotated[Period, Field(description="Weeks begin on Mondays.")] = Period.DAY


class Total(Document):
    """What a metric amounts to in the whole time."""

    quantity: float
    unit: str
    estimated_cost_cents: float | None
    """By the price of the metric (`KIKET_PRICES`); null for one that has none."""


class UsageDocument(Document):
    """Usage by metric, in total and by period."""

    start_at: datetime
    """The beginning of the first day (UTC)."""
    end_at: datetime
    """The end of the last day, not included."""
    unit: Period
    """What the series go by."""
    totals: dict[str, Total]
    series: dict[str, dict[date, float]]
    """By metric, the quantity of each period that had any, by the period's first day."""


@router.get(
    "",
    summary="Usage and its cost",
    response_model=UsageDocument,
    responses=problems(HTTPStatus.NOT_FOUND) | {200: {"content": {_CSV: {"schema": {"type": "string"}}}}},
)
def show_usage(
    caller: Caller,
    services: ServicesOf,
    asked: Annotated[Asked, Query()],
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Any:
    """The time is widened to whole days. With `Accept: text/csv`, the series as a table."""
    organization_id = visible_id(services, caller, asked.organization)
    first_day, last_day = days_of(asked.start_at, asked.end_at, today=datetime.now(UTC).date())
    found = usage.series(
        services.database, organization_id, first_day=first_day, last_day=last_day, period=asked.group_by
    )
    names = names_of(found)
    if prefers_csv(accept):
        return Response(
            _table(found, names, services.prices),
            media_type=_CSV,
            headers={
                "Content-Disposition": f'attachment; filename="usage-{first_day}-{last_day}.csv"',
                "Vary": "Accept",
            },
        )
    document = UsageDocument(
        start_at=_midnight(first_day),
        end_at=_midnight(last_day),
        unit=asked.group_by,
        totals=totals_of(found, names, services.prices),
        series={
            name: {one.start: float(one.quantity) for one in found if names[one.metric, one.unit] == name}
            for name in names.values()
        },
    )
    return Response(document.model_dump_json(), media_type="application/json", headers={"Vary": "Accept"})


def days_of(start_at: datetime | date | None, end_at: datetime | date | None, *, today: date) -> tuple[date, date]:
    """The first day and the one after the last; the same day twice where nothing lies between them."""
    last = _day(end_at, up=True) if end_at else _later(today, 1)
    first = _day(start_at, up=False) if start_at else _later(last, -_USUAL_DAYS)
    return min(first, last), last


def names_of(found: list[PeriodUsage]) -> dict[tuple[str, str], str]:
    """What each metric is called: a second unit of one is never added to the first, and stands behind its name."""
    names: dict[tuple[str, str], str] = {}
    for metric, unit in sorted({(one.metric, one.unit) for one in found}):
        names[metric, unit] = f"{metric}[{unit}]" if metric in names.values() else metric
    return names


def totals_of(
    found: list[PeriodUsage], names: dict[tuple[str, str], str], prices: Mapping[str, Decimal]
) -> dict[str, Total]:
    """What each metric amounts to."""
    totals = {}
    for (metric, unit), name in names.items():
        quantity = sum((one.quantity for one in found if (one.metric, one.unit) == (metric, unit)), Decimal(0))
        totals[name] = Total(
            quantity=float(quantity), unit=unit, estimated_cost_cents=cents_of(quantity, metric, prices)
        )
    return totals


def _table(found: list[PeriodUsage], names: dict[tuple[str, str], str], prices: Mapping[str, Decimal]) -> str:
    target = io.StringIO(newline="")
    writer = csv.writer(target)
    writer.writerow(["date", "metric", "quantity", "unit", "estimated_cost_cents"])
    for one in found:
        cost = cents_of(one.quantity, one.metric, prices)
        cells = [one.start, names[one.metric, one.unit], f"{one.quantity.normalize():f}", one.unit, cost]
        writer.writerow([_plain(cell) for cell in cells])
    return target.getvalue()


def _plain(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def _day(given: datetime | date, *, up: bool) -> date:
    if not isinstance(given, datetime):
        return given
    try:
        moment = given.astimezone(UTC)
    except OverflowError:  # Of a zone, beyond the first or the last day that there is.
        return given.date()
    return _later(moment.date(), 1) if up and moment.time() != moment.min.time() else moment.date()


def _later(day: date, days: int) -> date:
    return date.fromordinal(max(1, min(day.toordinal() + days, date.max.toordinal())))


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
