"""All organisations by slug, for operators."""

from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import quote

from fastapi import Query, Request, Response

from kiket_worker.console.access import ServicesOf, visible_organization
from kiket_worker.console.pages.rendering import redirect, render
from kiket_worker.console.pages.session import Viewer, pages_router
from kiket_worker.console.paging import Cursor, decoded, encoded
from kiket_worker.ledger import freshness

router = pages_router()

_PAGE_SIZE = 50


@router.get("/organizations")
def list_organizations(
    request: Request,
    services: ServicesOf,
    viewer: Viewer,
    cursor: Cursor = None,
    slug: Annotated[str | None, Query(max_length=255)] = None,
) -> Response:
    """A page of them; with a slug, on to that one. An organisation goes to itself."""
    if slug := viewer.organization_slug or (slug or "").strip():
        return redirect(organization_address(visible_organization(services, viewer, slug).slug))
    after = decoded(cursor, 1)[0] if cursor else None
    found = freshness.page(services.database, after=after, page_size=_PAGE_SIZE + 1)
    items = found[:_PAGE_SIZE]
    more = f"/organizations?cursor={encoded(items[-1].organization.slug)}" if len(found) > _PAGE_SIZE else None
    return render(
        request,
        "organizations.html.jinja",
        organizations=items,
        now=datetime.now(UTC),
        first="/organizations" if cursor else None,
        next=more,
    )


def organization_address(slug: str) -> str:
    """Where the page of an organisation is."""
    return f"/organizations/{quote(slug, safe='')}"
