"""Previews of an organisation's dashboards: which there are, and each drawn from its marts when somebody asks."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Query, Request, Response

from kiket_worker.console.access import ServicesOf, visible_organization
from kiket_worker.console.pages.drawing import drawing_of
from kiket_worker.console.pages.rendering import render
from kiket_worker.console.pages.session import Viewer, pages_router
from kiket_worker.console.problems import Problem, problem_of
from kiket_worker.console.services import Services
from kiket_worker.definitions.dashboards.document import Parameter
from kiket_worker.definitions.dashboards.presentation import ShownDashboard
from kiket_worker.errors import KiketError, PreviewsBusy, TenantLoginFailed, UnknownTenant
from kiket_worker.ledger import definitions
from kiket_worker.ledger.organizations import Organization
from kiket_worker.tenants.provisioning import Candidate

router = pages_router()

# What readers give for a parameter stands in the address under its name after this.
_GIVEN = "p."
_MOST_GIVEN_CHARACTERS = 255
_WORDS: dict[type[KiketError], str] = {
    PreviewsBusy: "Other dashboards are being drawn at the moment: look again in a few seconds.",
    UnknownTenant: "Nothing is built yet: the organisation's first refresh makes the role that dashboards are read as.",
    TenantLoginFailed: "Nobody can log in as the organisation's read-only role at the moment; it may have too many "
    "sessions. Its next refresh puts the role right.",
}
_NO_ROLES = (
    "Dashboards are drawn as an organisation's read-only database role. This installation has none, or this console "
    "was not given KIKET_TENANT_KEYS."
)


def shown_dashboards(services: Services, organization: Organization) -> dict[str, Any]:
    """What the organisation's page shows of them: which there are. Each asks for itself when somebody comes to it."""
    try:
        return {"dashboards": _published(services, organization), "dashboards_fault": ""}
    except KiketError as fault:
        return {"dashboards": [], "dashboards_fault": problem_of(fault).detail}


@router.get("/organizations/{slug}/dashboards/{repository}/{dashboard_id}")
def show_dashboard(
    slug: str,
    repository: str,
    dashboard_id: str,
    request: Request,
    services: ServicesOf,
    viewer: Viewer,
    prefix: Annotated[str, Query(pattern="^[a-z0-9]{1,10}$")] = "d",
) -> Response:
    """A dashboard, drawn now: the page, or the part of the organisation's page, where ids begin with a prefix."""
    organization = visible_organization(services, viewer, slug)
    dashboard = next(
        (one for one in _published(services, organization) if (one.repository, one.id) == (repository, dashboard_id)),
        None,
    )
    if dashboard is None:
        raise Problem(HTTPStatus.NOT_FOUND, "dashboard_unknown", "There is no such dashboard.")
    given = {
        name.removeprefix(_GIVEN): value[:_MOST_GIVEN_CHARACTERS]
        for name, value in request.query_params.items()
        if name.startswith(_GIVEN) and value.strip()
    }
    values: dict[str, Any] = {
        "organization": organization,
        "dashboard": dashboard,
        "parameters": _parameters(dashboard),
        "given": given,
        "prefix": prefix,
        **_drawn(services, organization, dashboard, given),
    }
    is_asked_by_page = "hx-request" in request.headers
    return render(request, "_dashboard.html.jinja" if is_asked_by_page else "dashboard.html.jinja", **values)


def _published(services: Services, organization: Organization) -> list[ShownDashboard]:
    current = definitions.current(services.database, organization.organization_id)
    return services.published.dashboards(current.overlays) if current else []


def _drawn(
    services: Services, organization: Organization, dashboard: ShownDashboard, given: dict[str, str]
) -> dict[str, Any]:
    if services.previews is None:
        return {"drawings": [], "fault": _NO_ROLES}
    try:
        candidate = Candidate(organization.organization_id, organization.slug)
        previews = services.previews.of(candidate, dashboard, given)
    except KiketError as fault:
        return {"drawings": [], "fault": _WORDS.get(type(fault)) or problem_of(fault).detail}
    return {"drawings": [drawing_of(preview) for preview in previews], "fault": ""}


def _parameters(dashboard: ShownDashboard) -> list[Parameter]:
    """Every parameter of the widgets once, by its name: who gives it a value gives it to all that have it."""
    found: dict[str, Parameter] = {}
    for widget in dashboard.widgets:
        for parameter in widget.config.parameters if widget.config else ():
            found.setdefault(parameter.name, parameter)
    return list(found.values())
