"""One run: what it is, what happened when, why it failed, what it has left; ended and asked for again from here."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Query, Request, Response

from kiket_worker.artifacts.opened import OpenSet
from kiket_worker.console import actions
from kiket_worker.console.access import ServicesOf, visible_run
from kiket_worker.console.pages.artifacts import open_left
from kiket_worker.console.pages.rendering import is_part, redirect, render
from kiket_worker.console.pages.session import Form, Viewer, pages_router
from kiket_worker.console.pages.timeline import timeline_of
from kiket_worker.console.problems import Problem, problem_of
from kiket_worker.console.services import Services
from kiket_worker.dbt.docs import PAGE_NAME
from kiket_worker.dbt.failing_sql import FailingSql, failing_sql
from kiket_worker.dbt.log import LOG_NAME
from kiket_worker.dbt.log_pages import Level, LogFilter, LogPage, page_of
from kiket_worker.errors import KiketError
from kiket_worker.ledger import runs
from kiket_worker.ledger.runs import KEY_LIMIT, Run, Status

router = pages_router()

STATE, ACTIONS, LEFT = "state", "actions", "left"
# dbt's of an organisation have a megabyte; no more of one is read into memory.
_MOST_DOCUMENT_BYTES = 16 * 1024 * 1024

_Text = Annotated[str, Query(max_length=255)]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Left:
    """What a run has left, as far as it can be had. `fault` says why there is nothing; `log_fault` why no log."""

    files: OpenSet | None = None
    about: dict[str, Any] | None = None
    failures: tuple[FailingSql, ...] = ()
    log: LogPage | None = None
    fault: str = ""
    log_fault: str = ""

    @property
    def has_docs(self) -> bool:
        """Whether dbt's docs are among it."""
        return self.files is not None and self.files.find(PAGE_NAME) is not None


@router.get("/runs/{run_id}")
def show_run(
    run_id: UUID,
    request: Request,
    services: ServicesOf,
    viewer: Viewer,
    level: _Text = "",
    model: _Text = "",
    text: _Text = "",
    after: Annotated[int, Query(ge=0, le=10**12)] = 0,
) -> Response:
    """The page, or a part of it that asks for itself again. What is in the address selects lines of the log."""
    run, now = visible_run(services, viewer, run_id), datetime.now(UTC)
    values: dict[str, Any] = {"run": run, "now": now}
    if is_part(request, ACTIONS):
        return render(request, "_run_actions.html.jinja", **values)
    if not is_part(request, LEFT):
        values |= _state(services, run, now)
    if is_part(request, STATE):
        return render(request, "_run_state.html.jinja", **values, is_part=True)
    wanted = LogFilter(Level(level) if level in set(Level) else Level.DEBUG, model.strip(), text.strip())
    left = _left(services, run, wanted, after)
    chosen = {"level": level, "model": wanted.model, "text": wanted.text}
    given = {name: value for name, value in chosen.items() if value}
    values |= {
        "left": left,
        "chosen": chosen,
        "levels": list(Level),
        "first": _log_address(run, given) if after else None,
        "next": _log_address(run, given | {"after": str(left.log.after)}) if left.log and left.log.after else None,
    }
    if is_part(request, LEFT):
        return render(request, "_run_left.html.jinja", **values)
    return render(request, "run.html.jinja", **values, is_part=False)


@router.post("/runs/{run_id}/cancel")
def cancel_run(run_id: UUID, request: Request, services: ServicesOf, viewer: Viewer, form: Form) -> Response:
    """Ask whether it is meant, or do it if that was asked already."""
    run = visible_run(services, viewer, run_id)
    if form.get("confirmed") != "yes" and not run.status.has_ended:
        return _confirm(request, run, "cancel")
    actions.cancel_run(services, viewer, run_id)
    return redirect(f"/runs/{run_id}")


@router.post("/runs/{run_id}/retry")
def retry_run(run_id: UUID, request: Request, services: ServicesOf, viewer: Viewer, form: Form) -> Response:
    """The same, for a new run that was asked for as this one was; on to that. The same form, sent twice, asks once."""
    run = visible_run(services, viewer, run_id)
    if form.get("confirmed") != "yes" and run.status.has_ended:
        return _confirm(request, run, "retry")
    nonce = form.get("nonce", "")
    key = f"page:{nonce}"[:KEY_LIMIT] if nonce else None
    return redirect(f"/runs/{actions.retry_run(services, viewer, run_id, idempotency_key=key).run_id}")


def _confirm(request: Request, run: Run, action: str) -> Response:
    return render(request, "run_confirm.html.jinja", run=run, action=action, nonce=secrets.token_urlsafe(16))


def _state(services: Services, run: Run, now: datetime) -> dict[str, Any]:
    attempts = runs.attempts(services.database, run.run_id)
    models = runs.models(services.database, run.run_id)
    return {"attempts": attempts, "models": models, "timeline": timeline_of(run, attempts, models, now)}


def _left(services: Services, run: Run, wanted: LogFilter, after: int) -> Left:
    files, fault = _tried(lambda: open_left(services, run))
    if files is None:
        return Left(fault=fault)
    failures: tuple[FailingSql, ...] | None = ()
    if run.status is Status.FAILED:
        failures, _ = _tried(lambda: _failures(files))
    log, log_fault = _tried(lambda: _log(files, wanted, after))
    return Left(files, files.about(), failures or (), log, log_fault=log_fault)


def _failures(files: OpenSet) -> tuple[FailingSql, ...]:
    results = files.read("run_results.json", most_bytes=_MOST_DOCUMENT_BYTES)
    if results is None:
        return ()
    manifest = files.read("manifest.json", most_bytes=_MOST_DOCUMENT_BYTES)
    return tuple(failing_sql(results, manifest))


def _log(files: OpenSet, wanted: LogFilter, after: int) -> LogPage | None:
    file = files.find(LOG_NAME)
    return page_of(files.pieces(file), wanted, after=after) if file is not None else None


def _tried(action: Callable[[], _T]) -> tuple[_T | None, str]:
    """What the store gives, or why it does not: the rest of the page is shown all the same."""
    try:
        return action(), ""
    except (Problem, KiketError) as fault:
        return None, problem_of(fault).detail


def _log_address(run: Run, query: dict[str, str]) -> str:
    return f"/runs/{run.run_id}{'?' if query else ''}{urlencode(query)}#log-title"
