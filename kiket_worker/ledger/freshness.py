"""How fresh organisations are: their last success, and how far they are behind their cadence."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from kiket_worker.ledger.database import Database, reading, statement
from kiket_worker.ledger.organizations import PLAN_PARAMETERS, Organization, organization_of

_OWN = ("lag_seconds", "last_success_run_id", "last_success_at", "outdated_seconds", "active_run_id")


class State(StrEnum):
    """How an organisation's analytics stand, in one word."""

    PAUSED = "paused"
    QUARANTINED = "quarantined"
    NO_SCHEMA = "no_schema"
    NEVER = "never"
    LATE = "late"
    FAILING = "failing"
    FRESH = "fresh"


@dataclass(frozen=True)
class Freshness:
    """One organisation. `lag_seconds` is how long it has been due; 0 if it is not, None if it never will be.

    `outdated_seconds` is the same of its last success: for how long that has been older than its interval.
    """

    organization: Organization
    state: State
    lag_seconds: float | None
    last_success_run_id: UUID | None
    last_success_at: datetime | None
    outdated_seconds: float | None
    active_run_id: UUID | None


def page(
    database: Database, *, organization_id: int | None = None, after: str | None = None, page_size: int
) -> list[Freshness]:
    """Organisations whose slug comes after `after`, by slug."""
    parameters = PLAN_PARAMETERS | {"organization_id": organization_id, "after": after, "page_size": page_size}
    return [
        Freshness(organization=organization_of(row), state=State(row["state"]), **{name: row[name] for name in _OWN})
        for row in database.rows(with_freshness(statement("organizations_page")), parameters, prepare=False)
    ]


def with_freshness(query: bytes) -> bytes:
    """A statement that reads the table `freshness`, with all that it reads put before it."""
    return reading("standing", statement("freshness") + query)


def of(database: Database, organization_id: int) -> Freshness | None:
    """One organisation's; None where it is gone."""
    found = page(database, organization_id=organization_id, page_size=1)
    return found[0] if found else None
