"""Organisations: how fresh they are, and refreshes that are asked for."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from kiket_worker.console import actions
from kiket_worker.console.access import Caller, ServicesOf, visible_organization
from kiket_worker.console.api import PREFIX
from kiket_worker.console.api.documents import OrganizationDocument, RunDocument
from kiket_worker.console.api.openapi import problems
from kiket_worker.console.paging import Cursor, Limit, Page, decoded, encoded, link_next
from kiket_worker.contract import known_traceparent
from kiket_worker.errors import UnknownOrganization
from kiket_worker.ledger import freshness
from kiket_worker.ledger.runs import KEY_LIMIT

router = APIRouter(prefix="/organizations", tags=["organizations"])

_Text = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00]+$")]


class Listing(BaseModel):
    """What may be asked of the list."""

    model_config = ConfigDict(extra="forbid")

    limit: Limit = 50
    cursor: Cursor = None


class RefreshRequest(BaseModel):
    """How the refresh is to be."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    full_refresh: bool = False
    """Whether incremental models are built anew from all rows."""
    docs: bool = False
    """Whether dbt's catalog is archived too."""
    select: Annotated[list[_Text], Field(min_length=1, max_length=100)] | None = None
    """Only these models, each in dbt's selection syntax; null: all."""
    requested_by: _Text | None = None
    """Who asked, as `user:42`; kept with the run for audit. The token's id stands for itself."""


@router.get("", summary="Organisations by slug, with their freshness")
def list_organizations(
    request: Request, response: Response, caller: Caller, services: ServicesOf, asked: Annotated[Listing, Query()]
) -> Page[OrganizationDocument]:
    """An organisation's token sees itself alone."""
    after = decoded(asked.cursor, 1)[0] if asked.cursor else None
    found = freshness.page(
        services.database, organization_id=caller.organization_id, after=after, page_size=asked.limit + 1
    )
    items = found[: asked.limit]
    next_cursor = encoded(items[-1].organization.slug) if len(found) > asked.limit else None
    link_next(request, response, next_cursor)
    return Page(items=[OrganizationDocument.of(one) for one in items], next_cursor=next_cursor)


@router.get("/{slug}", summary="One organisation, with its freshness", responses=problems(HTTPStatus.NOT_FOUND))
def show_organization(slug: str, caller: Caller, services: ServicesOf) -> OrganizationDocument:
    """As in the list."""
    organization_id = visible_organization(services, caller, slug).organization_id
    found = freshness.of(services.database, organization_id)
    if found is None:
        raise UnknownOrganization(slug)
    return OrganizationDocument.of(found)


@router.post(
    "/{slug}/refresh",
    status_code=HTTPStatus.ACCEPTED,
    summary="Ask for a refresh",
    responses=problems(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
def request_refresh(
    slug: str,
    caller: Caller,
    services: ServicesOf,
    response: Response,
    wanted: RefreshRequest | None = None,
    idempotency_key: Annotated[
        str | None,
        Header(min_length=1, max_length=KEY_LIMIT, description="The same key gives the same run, for ever."),
    ] = None,
    traceparent: Annotated[str | None, Header(max_length=512, description="The trace that the run continues.")] = None,
) -> RunDocument:
    """The run that will serve the request, or the one that a key has named before.

    A request made while a run waits joins it, so that the run may be another request's as well.
    """
    asked = wanted or RefreshRequest()
    run = actions.request_refresh(
        services,
        caller,
        slug,
        full_refresh=asked.full_refresh,
        docs=asked.docs,
        selection=asked.select,
        requested_by=asked.requested_by,
        idempotency_key=idempotency_key,
        traceparent=known_traceparent(traceparent),
    )
    response.headers["Location"] = f"{PREFIX}/runs/{run.run_id}"
    return RunDocument.of(run)
