"""The progress of a run as server-sent events, until it has ended.

Each event holds the whole state of what it tells of, a run or one of its models, and its id is a digest of all that was
told by then. Who comes back with the newest id is told only what is new; with any other, everything as it stands: so
nothing has to be kept here, any console process may answer, and nothing is missed.
"""

import hashlib
import time
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from kiket_worker.console.access import Caller, ServicesOf, visible_run
from kiket_worker.console.api.documents import ModelDocument, RunDocument
from kiket_worker.console.api.openapi import problems
from kiket_worker.console.problems import Problem
from kiket_worker.console.services import Services
from kiket_worker.console.watching import Watch
from kiket_worker.errors import KiketError
from kiket_worker.ledger import runs, tokens
from kiket_worker.ledger.runs import Watched
from kiket_worker.ledger.tokens import TokenId

router = APIRouter(prefix="/runs/{run_id}/events", tags=["runs"])

_MEDIA_TYPE = "text/event-stream"
_HEARTBEAT_SECONDS = 15.0
# Then the client comes back, perhaps to another process. A stream that nobody reads does not stay for ever.
_LONGEST_SECONDS = 1800.0
_RETRY_MILLISECONDS = 2000
# No model's id: dbt's have dots.
_RUN = "run"


@router.get(
    "",
    summary="The progress of a run, as it happens",
    response_class=StreamingResponse,
    responses=problems(HTTPStatus.NOT_FOUND)
    | {
        200: {
            "description": "Events `run` and `model`, each with its document, then `end`.",
            "content": {_MEDIA_TYPE: {"schema": {"type": "string"}}},
        },
        204: {"description": "The run has ended, and `Last-Event-ID` says that its end was told: do not come back."},
    },
)
async def stream_events(
    run_id: UUID,
    request: Request,
    caller: Caller,
    services: ServicesOf,
    last_event_id: Annotated[str | None, Header(max_length=64)] = None,
) -> Response:
    """Ends with the run. A comment comes every 15 seconds at least; `Last-Event-ID` is honoured."""
    run = await run_in_threadpool(visible_run, services, caller, run_id)
    if run.status.has_ended and last_event_id:
        found = await run_in_threadpool(runs.watched, services.database, [run_id])
        if run_id in found and digest_of(documents_of(found[run_id])) == last_event_id:
            return Response(status_code=HTTPStatus.NO_CONTENT)
    watch: Watch = request.app.state.watch
    if watch.is_full(caller.token_id):
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "too_many_streams",
            "Too many watch runs here at the moment.",
            headers={"Retry-After": "5"},
        )
    return StreamingResponse(
        _stream(services, watch, run_id, caller.token_id, last_event_id),
        media_type=_MEDIA_TYPE,
        headers={"X-Accel-Buffering": "no"},  # nginx would keep events back.
    )


def documents_of(state: Watched) -> dict[str, str]:
    """What is told of a run, as JSON by what it is of: the run first, then each model by its id."""
    models = {model.model_id: ModelDocument.model_validate(model).model_dump_json() for model in state.models}
    return {_RUN: RunDocument.of(state.run).model_dump_json()} | models


def digest_of(documents: Mapping[str, str]) -> str:
    """What names a state in which all this was told."""
    return hashlib.sha256("\n".join(documents.values()).encode()).hexdigest()[:32]


def event_text(name: str, data: str, event_id: str | None = None) -> str:
    """One event as it is sent. JSON has no line breaks, so that its data are one line."""
    return f"event: {name}\n" + (f"id: {event_id}\n" if event_id else "") + f"data: {data}\n\n"


async def _stream(
    services: Services, watch: Watch, run_id: UUID, token_id: TokenId, last_event_id: str | None
) -> AsyncIterator[str]:
    yield f"retry: {_RETRY_MILLISECONDS}\n\n"
    until = time.monotonic() + _LONGEST_SECONDS
    checked_at = time.monotonic()
    told: dict[str, str] = {}
    async with watch.of(run_id, token_id) as now:
        while time.monotonic() < until and not watch.has_ended:
            if state := now():
                documents = documents_of(state)
                if digest_of(documents) == last_event_id:
                    told = documents
                for text in _news(told, documents):
                    yield text
                told, last_event_id = documents, None
                if state.run.status.has_ended:
                    yield event_text("end", f'{{"status":"{state.run.status}"}}')
                    return
            if time.monotonic() - checked_at >= _HEARTBEAT_SECONDS:
                checked_at = time.monotonic()
                if not await run_in_threadpool(_may_go_on, services, token_id):
                    return
                yield ": heartbeat\n\n"
            await watch.looked()


def _news(told: Mapping[str, str], documents: Mapping[str, str]) -> list[str]:
    """The events of what has changed. Only the last has an id: who misses one of them is told all of them again."""
    news = [(name, data) for name, data in documents.items() if told.get(name) != data]
    return [
        event_text("run" if name == _RUN else "model", data, digest_of(documents) if number == len(news) else None)
        for number, (name, data) in enumerate(news, 1)
    ]


def _may_go_on(services: Services, token_id: TokenId) -> bool:
    """Whether the token is still good. While the ledger does not answer, nothing is told anyway."""
    try:
        return tokens.is_valid(services.database, token_id)
    except KiketError:
        return True
