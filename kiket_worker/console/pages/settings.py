"""Changes of an organisation's settings: said first in words, and made when somebody says yes to them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import Request, Response

from kiket_worker.console import actions
from kiket_worker.console.access import ServicesOf, visible_organization
from kiket_worker.console.pages.organizations import organization_address
from kiket_worker.console.pages.rendering import redirect, render
from kiket_worker.console.pages.session import Form, Viewer, pages_router
from kiket_worker.console.problems import Problem
from kiket_worker.ledger.organizations import PLAN_INTERVAL_HOURS, Organization, Plan

router = pages_router()

LONGEST_HOURS = 8760


@dataclass(frozen=True)
class Wanted:
    """Settings as a form has them. `own_hours` is None where the plan's interval is to count."""

    enabled: bool
    own_hours: int | None
    docs: bool

    def changes_of(self, organization: Organization) -> list[str]:
        """What would be different, each a sentence."""
        found = []
        if self.enabled != organization.enabled:
            found.append(
                "Refreshes go on: the organisation is refreshed whenever it is due."
                if self.enabled
                else "Refreshes pause: nothing is refreshed, on schedule or on request, until somebody lets them go "
                "on. What is there stays as it is."
            )
        if self.own_hours != organization.refresh_interval_hours:
            before, after = _hours(organization.interval_hours), _hours(self.own_hours or plan_hours(organization.plan))
            whose = "its own" if self.own_hours else "the plan's"
            found.append(f"The interval between refreshes becomes {after}, {whose}; it is {before} now.")
        if self.docs != organization.docs:
            found.append("Each run leaves dbt's docs." if self.docs else "Runs leave no docs any more.")
        return found


@router.post("/organizations/{slug}/settings")
def change_settings(slug: str, request: Request, services: ServicesOf, viewer: Viewer, form: Form) -> Response:
    """Ask whether it is meant, or do it if that was asked already."""
    organization = visible_organization(services, viewer, slug)
    wanted = _read(form)
    changes = wanted.changes_of(organization)
    address = organization_address(slug)
    if not changes:
        return redirect(f"{address}?notice=unchanged")
    # A yes is to what was said: if somebody else has changed something since, it is said anew.
    said = _digest(changes)
    if form.get("confirmed") != said:
        return render(
            request, "confirm.html.jinja", organization=organization, wanted=wanted, changes=changes, said=said
        )
    own_hours = wanted.own_hours if wanted.own_hours != organization.refresh_interval_hours else None
    actions.change_settings(
        services,
        viewer,
        slug,
        enabled=wanted.enabled if wanted.enabled != organization.enabled else None,
        refresh_interval_hours=own_hours,
        use_plan_default=wanted.own_hours is None and organization.refresh_interval_hours is not None,
        docs=wanted.docs if wanted.docs != organization.docs else None,
    )
    return redirect(f"{address}?notice=saved")


def plan_hours(plan: str) -> int | None:
    """The interval of a plan; None for one that has none."""
    return PLAN_INTERVAL_HOURS[Plan(plan)] if plan in PLAN_INTERVAL_HOURS else None


def _read(form: Form) -> Wanted:
    own_hours = None
    if form.get("interval") == "own":
        text = form.get("hours", "").strip()
        if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= LONGEST_HOURS):
            raise Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "interval_invalid",
                f"The interval is a whole number of hours from 1 to {LONGEST_HOURS}. Nothing was changed: go back and "
                "give another one.",
            )
        own_hours = int(text)
    return Wanted(enabled=form.get("refreshes") == "go_on", own_hours=own_hours, docs=form.get("docs") == "yes")


def _digest(changes: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(changes).encode()).hexdigest()


def _hours(hours: int | None) -> str:
    return "none" if hours is None else f"{hours} h"
