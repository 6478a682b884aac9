"""The whole installation at a glance: how organisations stand, what goes on, what has failed, and how much was done."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from kiket_worker.ledger import runs, usage
from kiket_worker.ledger.database import Database, reading, statement
from kiket_worker.ledger.organizations import PLAN_PARAMETERS
from kiket_worker.ledger.runs import Run, Status
from kiket_worker.ledger.usage import Costly

_SHOWN = 20
_LATEST = 200
_HOURS = 72


@dataclass(frozen=True)
class PlanStanding:
    """How the organisations of a plan stand that have settings. `lag_seconds` is of the latest of them."""

    plan: str
    organizations: int
    enabled: int
    quarantined: int
    never_refreshed: int
    late: int
    lag_seconds: float


@dataclass(frozen=True)
class Late:
    """An organisation that is due, and for how long it has been."""

    slug: str
    name: str
    plan: str
    interval_hours: int
    last_run_at: datetime | None
    due_at: datetime
    lag_seconds: float


@dataclass(frozen=True)
class Hour:
    """The runs that ended in an hour with a status. `seconds` is what they took together since their last attempt."""

    hour: datetime
    status: Status
    runs: int
    seconds: float


@dataclass(frozen=True)
class Overview:
    """One look, at `at`. Lists are cut: the latest organisations, the longest runs, the newest failures."""

    at: datetime
    plans: list[PlanStanding]
    latest: list[Late]
    in_progress: list[Run]
    failures: list[Run]
    hours: list[Hour]
    costliest: list[Costly]

    def ended_since(self, moment: datetime, status: Status) -> int:
        """How many runs have ended with a status in the hours that began at the moment or later."""
        return sum(hour.runs for hour in self.hours if hour.status is status and hour.hour >= moment)


def look(database: Database, prices: Mapping[str, Decimal], *, now: datetime) -> Overview:
    """Look once. The part that goes through all organisations takes about half a second for 100,000 of them."""
    plans, latest = fleet(database)
    return Overview(
        at=now,
        plans=plans,
        latest=latest,
        in_progress=runs.in_progress(database, _SHOWN),
        failures=runs.page(database, status=Status.FAILED, since=now - timedelta(days=1), page_size=_SHOWN),
        hours=throughput(database, hours=_HOURS),
        costliest=usage.costliest(database, prices, month=now.astimezone(UTC).date().replace(day=1), limit=10),
    )


def fleet(database: Database) -> tuple[list[PlanStanding], list[Late]]:
    """How the organisations of each plan stand, and the latest organisations."""
    query = reading("standing", statement("fleet"))
    row = database.rows(query, PLAN_PARAMETERS | {"organizations_limit": _LATEST}, prepare=False)[0]
    return [PlanStanding(**plan) for plan in row["plans"]], [_late(late) for late in row["latest"]]


def throughput(database: Database, *, hours: int) -> list[Hour]:
    """The runs that ended in the last hours, by hour and by how, the oldest first. An hour without any is not there."""
    rows = database.rows(statement("run_hours"), {"hours": hours})
    return [Hour(**row | {"status": Status(row["status"])}) for row in rows]


def _late(document: dict[str, str]) -> Late:
    times = {name: document[name] and datetime.fromisoformat(document[name]) for name in ("last_run_at", "due_at")}
    return Late(**document | times)  # type: ignore[arg-type]  # Postgres' JSON, by the names of the statement
