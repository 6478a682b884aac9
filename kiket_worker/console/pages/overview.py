"""The overview: how the whole installation stands, for operators."""

from datetime import UTC, datetime, timedelta
from typing import Annotated
from urllib.parse import quote

from fastapi import Query, Request, Response

from kiket_worker.console.access import ServicesOf
from kiket_worker.console.pages.rendering import is_part, redirect, render
from kiket_worker.console.pages.session import Viewer, pages_router
from kiket_worker.errors import KiketError
from kiket_worker.ledger.overview import SHOWN, Overview
from kiket_worker.ledger.runs import Status

router = pages_router()

PART = "overview"
_PAGE_SIZE = 20
_HOURS = 48
_ENDS = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.SKIPPED)


@router.get("/")
def show_overview(
    request: Request, services: ServicesOf, viewer: Viewer, outdated: Annotated[int, Query(ge=1, le=1000)] = 1
) -> Response:
    """The first page; an organisation's own is what it has of this. `outdated` is a page of the least fresh ones."""
    if viewer.organization_slug is not None:
        return redirect(f"/organizations/{quote(viewer.organization_slug, safe='')}")
    look = services.overview()
    try:
        depths = services.depths()
    except KiketError:  # RabbitMQ does not answer; the ledger does, and what it says is no less true.
        depths = None
    begin = (outdated - 1) * _PAGE_SIZE
    return render(
        request,
        "_overview.html.jinja" if is_part(request, PART) else "overview.html.jinja",
        look=look,
        now=datetime.now(UTC),
        depths=depths,
        shown=SHOWN,
        failed=look.ended_since(look.at - timedelta(days=1), Status.FAILED),
        succeeded=look.ended_since(look.at - timedelta(days=1), Status.SUCCEEDED),
        outdated_page=outdated,
        outdated=look.outdated[begin : begin + _PAGE_SIZE],
        has_more_outdated=len(look.outdated) > begin + _PAGE_SIZE,
        ends=_ENDS,
        hours=throughput_of(look),
    )


def throughput_of(look: Overview) -> list[tuple[datetime, dict[Status, int], float | None]]:
    """Each of the last hours, the newest first: the runs by how they ended, and what one took on average.

    Hours in which nothing ended are there too.
    """
    newest = look.at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    found = []
    for hour in (newest - timedelta(hours=number) for number in range(_HOURS)):
        ended = [one for one in look.hours if one.hour == hour]
        runs = sum(one.runs for one in ended)
        mean = sum(one.seconds for one in ended) / runs if runs else None
        found.append((hour, {one.status: one.runs for one in ended}, mean))
    return found
