"""Runs: listed, looked at, ended."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from kiket_worker.console import actions
from kiket_worker.console.access import Caller, ServicesOf, visible_id, visible_run
from kiket_worker.console.api.documents import RunDetail, RunDocument, run_detail
from kiket_worker.console.api.openapi import problems
from kiket_worker.console.moments import Moment
from kiket_worker.console.paging import Cursor, Limit, Page, decoded, encoded, invalid_cursor, link_next
from kiket_worker.console.services import Services
from kiket_worker.ledger import archives, runs
from kiket_worker.ledger.runs import Position, Run, Status

router = APIRouter(prefix="/runs", tags=["runs"])


class Listing(BaseModel):
    """What may be asked of the list."""

    model_config = ConfigDict(extra="forbid")

    organization: Annotated[str | None, Field(max_length=255, description="Only this one's, by slug.")] = None
    status: Annotated[Status | None, Field(description="Only those with this status.")] = None
    since: Annotated[Moment | None, Field(description="Only those queued at this moment or later.")] = None
    limit: Limit = 50
    cursor: Cursor = None


@router.get("", summary="Runs, newest first", responses=problems(HTTPStatus.NOT_FOUND))
def list_runs(
    request: Request, response: Response, caller: Caller, services: ServicesOf, asked: Annotated[Listing, Query()]
) -> Page[RunDocument]:
    """An organisation's token sees its own runs alone."""
    found = runs.page(
        services.database,
        organization_id=visible_id(services, caller, asked.organization),
        status=asked.status,
        since=asked.since,
        after=position_of(asked.cursor) if asked.cursor else None,
        page_size=asked.limit + 1,
    )
    items = found[: asked.limit]
    next_cursor = encoded(items[-1].queued_at.isoformat(), str(items[-1].run_id)) if len(found) > asked.limit else None
    link_next(request, response, next_cursor)
    return Page(items=[RunDocument.of(run) for run in items], next_cursor=next_cursor)


@router.get("/{run_id}", summary="One run", responses=problems(HTTPStatus.NOT_FOUND))
def show_run(run_id: UUID, caller: Caller, services: ServicesOf) -> RunDetail:
    """With its models, attempts and artifacts."""
    return _detail(services, visible_run(services, caller, run_id))


@router.post(
    "/{run_id}/cancel",
    status_code=HTTPStatus.ACCEPTED,
    summary="End a run",
    responses=problems(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
def cancel_run(run_id: UUID, caller: Caller, services: ServicesOf) -> RunDocument:
    """At once if it waits, else as soon as its worker hears of it: `cancel_requested_at` says since when it should."""
    return RunDocument.of(actions.cancel_run(services, caller, run_id))


def _detail(services: Services, run: Run) -> RunDetail:
    database = services.database
    return run_detail(
        run,
        runs.models(database, run.run_id),
        runs.attempts(database, run.run_id),
        archives.find(database, run.run_id) if run.artifacts_location else None,
    )


def position_of(cursor: str) -> Position:
    """Where a page of runs begins, by its cursor. Raises `Problem`."""
    at, run_id = decoded(cursor, 2)
    try:
        position = Position(datetime.fromisoformat(at), UUID(run_id))
    except ValueError:
        raise invalid_cursor() from None
    if position.queued_at.tzinfo is None:
        raise invalid_cursor()
    return position
