"""Published versions of an organisation's definitions, and what each has changed."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Path, Query, Request, Response

from kiket_worker.console.access import ServicesOf, visible_organization
from kiket_worker.console.pages.rendering import is_part, render
from kiket_worker.console.pages.session import Viewer, pages_router
from kiket_worker.console.problems import Problem
from kiket_worker.console.services import Services
from kiket_worker.dbt.overlay import Overlay
from kiket_worker.definitions.differences import changes, text_diff
from kiket_worker.ledger import definitions
from kiket_worker.ledger.definitions import Version
from kiket_worker.ledger.organizations import Organization

router = pages_router()

CHANGES = "version-changes"
_VERSIONS = 20

_Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
_Path = Annotated[str, Query(max_length=500)]


def shown_versions(services: Services, organization: Organization) -> dict[str, Any]:
    """What the organisation's page shows of them: the newest."""
    found = definitions.newest(services.database, organization.organization_id, _VERSIONS + 1)
    return {"versions": found[:_VERSIONS], "has_more_versions": len(found) > _VERSIONS}


@router.get("/organizations/{slug}/versions/{number}")
def show_version(slug: str, number: _Number, request: Request, services: ServicesOf, viewer: Viewer) -> Response:
    """What a version has changed against the one before; the page, or the part of the organisation's page."""
    organization = visible_organization(services, viewer, slug)
    version, before, after = _sides(services, organization, number)
    values: dict[str, Any] = {"organization": organization, "version": version, "changes": changes(before, after)}
    return render(request, "_version.html.jinja" if is_part(request, CHANGES) else "version.html.jinja", **values)


@router.get("/organizations/{slug}/versions/{number}/diff")
def show_diff(
    slug: str,
    number: _Number,
    request: Request,
    services: ServicesOf,
    viewer: Viewer,
    repository: _Path,
    path: _Path,
) -> Response:
    """A file of a version against the one before, line by line. Only what has changed has such a page."""
    organization = visible_organization(services, viewer, slug)
    version, before, after = _sides(services, organization, number)
    change = next((one for one in changes(before, after) if (one.repository, one.path) == (repository, path)), None)
    if change is None:
        raise Problem(HTTPStatus.NOT_FOUND, "file_unknown", "The version has changed no such file.")
    old, new = (side[repository].files.get(path, "") if repository in side else "" for side in (before, after))
    values: dict[str, Any] = {
        "organization": organization,
        "version": version,
        "change": change,
        "diff": text_diff(old, new),
    }
    return render(request, "diff.html.jinja", **values)


def _sides(
    services: Services, organization: Organization, number: int
) -> tuple[Version, dict[str, Overlay], dict[str, Overlay]]:
    """A version, the overlays before it, and its own. Raises `UnknownVersion` and what the store raises."""
    version = definitions.get(services.database, organization.organization_id, number)
    earlier: Mapping[str, str] = {}
    if number > 1:
        earlier = definitions.get(services.database, organization.organization_id, number - 1).overlays
    return version, services.published.overlays(earlier), services.published.overlays(version.overlays)
