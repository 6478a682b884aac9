"""Runs, the newest first, of whom and of which kind one wants."""

from datetime import UTC, date, datetime
from http import HTTPStatus
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query, Request, Response

from kiket_worker.console.access import ServicesOf, visible_id
from kiket_worker.console.api.runs import position_of
from kiket_worker.console.pages.rendering import render
from kiket_worker.console.pages.session import Viewer, pages_router
from kiket_worker.console.paging import Cursor, encoded
from kiket_worker.console.problems import Problem
from kiket_worker.ledger import runs
from kiket_worker.ledger.runs import Status

router = pages_router()

_PAGE_SIZE = 50
_Text = Annotated[str, Query(max_length=255)]


@router.get("/runs")
def list_runs(
    request: Request,
    services: ServicesOf,
    viewer: Viewer,
    organization: _Text = "",
    status: _Text = "",
    since: _Text = "",
    cursor: Cursor = None,
) -> Response:
    """A page of the list. Fields of the form that are left empty select nothing; an organisation sees its own runs."""
    slug = viewer.organization_slug or organization.strip() or None
    found = runs.page(
        services.database,
        organization_id=visible_id(services, viewer, organization.strip() or None),
        status=_status(status),
        since=_midnight(since),
        after=position_of(cursor) if cursor else None,
        page_size=_PAGE_SIZE + 1,
    )
    items = found[:_PAGE_SIZE]
    chosen = {"organization": organization.strip(), "status": status, "since": since}
    given = {name: value for name, value in chosen.items() if value}
    more = None
    if len(found) > _PAGE_SIZE:
        more = _address(given | {"cursor": encoded(items[-1].queued_at.isoformat(), str(items[-1].run_id))})
    return render(
        request,
        "runs.html.jinja",
        runs=items,
        slug=slug,
        chosen=chosen,
        statuses=list(Status),
        now=datetime.now(UTC),
        first=_address(given) if cursor else None,
        next=more,
    )


def _address(query: dict[str, str]) -> str:
    return f"/runs?{urlencode(query)}" if query else "/runs"


def _status(text: str) -> Status | None:
    if not text:
        return None
    try:
        return Status(text)
    except ValueError:
        raise _unknown("There is no such status.") from None


def _midnight(text: str) -> datetime | None:
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise _unknown("A day is written as 2026-06-01.") from None
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _unknown(detail: str) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "request_invalid", detail)
