"""One organisation: its settings, its newest run as it goes on, its history, and what it has used."""

import secrets
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from fastapi import Request, Response

from kiket_worker.console import actions
from kiket_worker.console.access import ServicesOf, visible_organization, visible_run
from kiket_worker.console.pages.dashboards import shown_dashboards
from kiket_worker.console.pages.organizations import organization_address
from kiket_worker.console.pages.rendering import is_part, redirect, render
from kiket_worker.console.pages.session import Form, Viewer, pages_router
from kiket_worker.console.pages.settings import plan_hours
from kiket_worker.console.pages.usage import last_days, used
from kiket_worker.console.pages.versions import shown_versions
from kiket_worker.console.services import Services
from kiket_worker.errors import UnknownOrganization, UnknownRun
from kiket_worker.ledger import freshness, history, runs
from kiket_worker.ledger.freshness import Freshness
from kiket_worker.ledger.organizations import Organization
from kiket_worker.ledger.runs import KEY_LIMIT, Watched
from kiket_worker.ledger.tokens import Holder

router = pages_router()

PROGRESS, FIGURES = "progress", "figures"
_RUNS = 30
_MODELS = 10
# Metrics whose days are drawn; all are in the totals.
_DRAWN = 4
# What the page says after a change, by the word in its address: no text of an address is ever shown.
_NOTICES = {
    "saved": "The settings were saved.",
    "unchanged": "Nothing was changed: the settings were so already.",
}


@router.get("/organizations/{slug}")
def show_organization(
    slug: str, request: Request, services: ServicesOf, viewer: Viewer, run: UUID | None = None, notice: str = ""
) -> Response:
    """The page, or a part of it that asks for itself again. `run` is the one to watch: the active one unless given."""
    organization = visible_organization(services, viewer, slug)
    if is_part(request, PROGRESS):
        return render(
            request, "_progress.html.jinja", watched=_watched(services, viewer, organization, run), is_part=True
        )
    standing, now = _standing(services, organization), datetime.now(UTC)
    watched_id = run if is_part(request, FIGURES) else run or standing.active_run_id
    figures: dict[str, Any] = {"organization": organization, "standing": standing, "watched_id": watched_id, "now": now}
    figures |= _figures(services, organization, now)
    if is_part(request, FIGURES):
        return render(request, "_organization_figures.html.jinja", **figures)
    return render(
        request,
        "organization.html.jinja",
        **figures,
        **page_values(services, organization),
        watched=_watched(services, viewer, organization, watched_id),
        plan_hours=plan_hours(organization.plan),
        notice=_NOTICES.get(notice),
        nonce=secrets.token_urlsafe(16),
        is_part=False,
    )


@router.post("/organizations/{slug}/refresh")
def request_refresh(slug: str, services: ServicesOf, viewer: Viewer, form: Form) -> Response:
    """Ask for a refresh, and on to the page that watches it. The same form, sent twice, asks once."""
    nonce = form.get("nonce", "")
    found = actions.request_refresh(
        services,
        viewer,
        slug,
        full_refresh=form.get("full_refresh") == "yes",
        docs=form.get("docs") == "yes",
        idempotency_key=f"page:{nonce}"[:KEY_LIMIT] if nonce else None,
    )
    return redirect(f"{organization_address(slug)}?run={found.run_id}#progress-title")


def page_values(services: Services, organization: Organization) -> dict[str, Any]:
    """What the parts of the page need that stand in files of their own."""
    return shown_versions(services, organization) | shown_dashboards(services, organization)


def _standing(services: Services, organization: Organization) -> Freshness:
    found = freshness.of(services.database, organization.organization_id)
    if found is None:
        raise UnknownOrganization(organization.slug)
    return found


def _watched(services: Services, viewer: Holder, organization: Organization, run_id: UUID | None) -> Watched | None:
    if run_id is None:
        return None
    found = visible_run(services, viewer, run_id)
    if found.organization_id != organization.organization_id:
        raise UnknownRun(f"no run of {organization.slug} has the id {run_id}")
    return runs.watched(services.database, [run_id]).get(run_id)


def _figures(services: Services, organization: Organization, now: datetime) -> dict[str, Any]:
    database, organization_id = services.database, organization.organization_id
    days = last_days(now)
    metrics = used(database, organization_id, days, services.prices)
    return {
        "history": runs.page(database, organization_id=organization_id, page_size=_RUNS),
        "slowest": history.slowest_models(database, organization_id, _MODELS),
        "metrics": metrics,
        "drawn": metrics[:_DRAWN],
        "days": days,
    }
