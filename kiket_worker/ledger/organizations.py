"""Organisations as the ledger sees them: the platform's row and its analytics settings together."""

from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

from kiket_worker.errors import UnknownOrganization
from kiket_worker.ledger.database import Database, is_storable, reading, statement


class Plan(StrEnum):
    """What an organisation pays for."""

    STARTER = "starter"
    TEAM = "team"
    BUSINESS = "business"
    ENTERPRISE = "enterprise"


PLAN_INTERVAL_HOURS = {Plan.STARTER: 24, Plan.TEAM: 12, Plan.BUSINESS: 6, Plan.ENTERPRISE: 1}
# The same as the parameters of statements that decide what is due.
PLAN_PARAMETERS: dict[str, Any] = {"plans": list(PLAN_INTERVAL_HOURS), "hours": list(PLAN_INTERVAL_HOURS.values())}


@dataclass(frozen=True)
class Organization:
    """One organisation.

    `interval_hours` is what counts: its own setting, or else its plan's default. `can_have_schema` is false when its
    slug cannot be a schema name, or gives the schema of another.
    """

    organization_id: int
    slug: str
    name: str
    plan: str
    enabled: bool
    refresh_interval_hours: int | None
    interval_hours: int | None
    last_run_at: datetime | None
    quarantine_reason: str | None
    can_have_schema: bool
    due_at: datetime | None
    # Its own, where it does not go with the installation's.
    engine: str | None = None
    # Whether each of its runs leaves its docs.
    docs: bool = False


def organization_of(row: dict[str, Any]) -> Organization:
    """The organisation of a row of the table `standing`, which has more."""
    return Organization(**{field.name: row[field.name] for field in fields(Organization)})


def find(database: Database, slug: str) -> Organization:
    """The organisation with this slug. Raises `UnknownOrganization`."""
    found = _select(database, slug)
    if not found:
        raise UnknownOrganization(slug)
    return found[0]


def list_with_settings(database: Database) -> list[Organization]:
    """Every organisation that has analytics settings, the next due first."""
    return _select(database, None)


def save_settings(
    database: Database,
    organization_id: int,
    *,
    enabled: bool | None = None,
    refresh_interval_hours: int | None = None,
    use_plan_default: bool = False,
    release: bool = False,
    engine: str | None = None,
    docs: bool | None = None,
) -> None:
    """Change an organisation's settings; None leaves a setting as it is.

    `use_plan_default` drops its own interval, `release` ends its quarantine, and the engine `default` drops its own.
    """
    with database.transaction() as connection:
        connection.execute(
            statement("save_settings"),
            {
                "organization_id": organization_id,
                "enabled": enabled,
                "refresh_interval_hours": refresh_interval_hours,
                "use_plan_default": use_plan_default,
                "release": release,
                "engine": engine,
                "docs": docs,
            },
        )


def _select(database: Database, slug: str | None) -> list[Organization]:
    if slug is not None and not is_storable(slug):
        return []
    rows = database.rows(reading("standing", statement("list_organizations")), PLAN_PARAMETERS | {"slug": slug})
    return [organization_of(row) for row in rows]
