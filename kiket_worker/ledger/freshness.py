"""How fresh organisations are: their last success, and how far they are behind their cadence."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from kiket_worker.ledger.database import Database, reading, statement
from kiket_worker.ledger.organizations import PLAN_PARAMETERS, Organization, organization_of

_OWN = ("lag_seconds", "last_success_run_id", "last_success_at", "is_outdated", "active_run_id")


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

    It is outdated when its last success is longer ago than its interval.
    """

    organization: Organization
    lag_seconds: float | None
    last_success_run_id: UUID | None
    last_success_at: datetime | None
    is_outdated: bool
    active_run_id: UUID | None

    @property
    def state(self) -> State:
        """In one word. What keeps it from being refreshed counts more than how old it is."""
        if self.organization.quarantine_reason:
            return State.QUARANTINED
        if not self.organization.enabled:
            return State.PAUSED
        if self.organization.due_at is None:
            return State.NO_SCHEMA
        if self.last_success_at is None:
            return State.NEVER
        if self.lag_seconds:
            return State.LATE
        # It was refreshed when it was due, and that came to nothing.
        return State.FAILING if self.is_outdated else State.FRESH


def page(
    database: Database, *, organization_id: int | None = None, after: str | None = None, page_size: int
) -> list[Freshness]:
    """Organisations whose slug comes after `after`, by slug."""
    parameters = PLAN_PARAMETERS | {"organization_id": organization_id, "after": after, "page_size": page_size}
    query = reading("standing", statement("organizations_page"))
    return [
        Freshness(organization=organization_of(row), **{name: row[name] for name in _OWN})
        for row in database.rows(query, parameters, prepare=False)
    ]


def of(database: Database, organization_id: int) -> Freshness | None:
    """One organisation's; None where it is gone."""
    found = page(database, organization_id=organization_id, page_size=1)
    return found[0] if found else None
