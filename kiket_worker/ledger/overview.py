"""The whole installation at a glance: how organisations stand, what goes on, what has failed, and how much was done."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from kiket_worker.ledger import runs, usage
from kiket_worker.ledger.database import Database, statement
from kiket_worker.ledger.freshness import State, with_freshness
from kiket_worker.ledger.organizations import PLAN_PARAMETERS
from kiket_worker.ledger.runs import Run, Status
from kiket_worker.ledger.usage import Costly

# Runs in progress and failures that are listed at most.
SHOWN = 20
_LEAST_FRESH = 200
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
    failing: int
    lag_seconds: float


@dataclass(frozen=True)
class Outdated:
    """An organisation whose last success is older than its interval, and for how long it has been.

    None of `last_success_at` is one that has none yet.
    """

    slug: str
    name: str
    plan: str
    state: State
    interval_hours: int
    last_success_at: datetime | None
    outdated_seconds: float


@dataclass(frozen=True)
class Hour:
    """The runs that ended in an hour with a status. `seconds` is what they took together since their last attempt."""

    hour: datetime
    status: Status
    runs: int
    seconds: float


@dataclass(frozen=True)
class Overview:
    """One look, at `at`. Lists are cut: the least fresh organisations, the longest runs, the newest failures."""

    at: datetime
    plans: list[PlanStanding]
    outdated: list[Outdated]
    in_progress: list[Run]
    failures: list[Run]
    hours: list[Hour]
    costliest: list[Costly]

    def ended_since(self, moment: datetime, status: Status) -> int:
        """How many runs have ended with a status in the hours that began at the moment or later."""
        return sum(hour.runs for hour in self.hours if hour.status is status and hour.hour >= moment)


def look(database: Database, prices: Mapping[str, Decimal], *, now: datetime) -> Overview:
    """Look once. The part that goes through all organisations takes about a second for 100,000 of them."""
    plans, outdated = fleet(database)
    return Overview(
        at=now,
        plans=plans,
        outdated=outdated,
        in_progress=runs.in_progress(database, SHOWN),
        failures=runs.failed_since(database, now - timedelta(days=1), SHOWN),
        hours=throughput(database, hours=_HOURS),
        costliest=usage.costliest(database, prices, month=now.astimezone(UTC).date().replace(day=1), limit=10),
    )


def fleet(database: Database) -> tuple[list[PlanStanding], list[Outdated]]:
    """How the organisations of each plan stand, and the least fresh organisations."""
    parameters = PLAN_PARAMETERS | {"organizations_limit": _LEAST_FRESH}
    row = database.rows(with_freshness(statement("fleet")), parameters, prepare=False)[0]
    return [PlanStanding(**plan) for plan in row["plans"]], [_outdated(one) for one in row["outdated"]]


def throughput(database: Database, *, hours: int) -> list[Hour]:
    """The runs that ended in the last hours, by hour and by how, the oldest first. An hour without any is not there."""
    rows = database.rows(statement("run_hours"), {"hours": hours})
    return [Hour(**row | {"status": Status(row["status"])}) for row in rows]


def _outdated(document: dict[str, Any]) -> Outdated:
    last_success_at = document["last_success_at"]
    read = {
        "state": State(document["state"]),
        "last_success_at": last_success_at and datetime.fromisoformat(last_success_at),
    }
    return Outdated(**document | read)
