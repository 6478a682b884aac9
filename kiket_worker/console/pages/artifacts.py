"""What a run has left, given out by the console: verified against its index, piece by piece, to who may see the run."""

from collections.abc import Iterator
from http import HTTPStatus
from itertools import chain
from pathlib import PurePosixPath
from urllib.parse import quote
from uuid import UUID

from fastapi import Response
from fastapi.responses import StreamingResponse

from kiket_worker.artifacts.archive import INDEX_NAME, ArchivedFile, content_type_of
from kiket_worker.artifacts.opened import OpenSet, open_set
from kiket_worker.console.access import ServicesOf, visible_run
from kiket_worker.console.pages.rendering import redirect
from kiket_worker.console.pages.session import Viewer, pages_router
from kiket_worker.console.problems import Problem
from kiket_worker.console.services import Services
from kiket_worker.dbt.docs import PAGE_NAME
from kiket_worker.ledger import archives
from kiket_worker.ledger.runs import Run

router = pages_router()

# A file is never a page of the console's, whatever is in it and whatever a browser makes of it.
_POLICY_OF_FILES = "default-src 'none'; sandbox; frame-ancestors 'none'"
# dbt's application is one page with scripts inside, which makes code of templates. What authors have written is in it,
# so it has an origin of its own, without the session's cookie (sandbox), and no way to ask or send anything anywhere.
_POLICY_OF_DOCS = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data:; font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def open_left(services: Services, run: Run) -> OpenSet:
    """The artifacts of a run. Raises `Problem` 404 where there are none here, and what the store raises."""
    archived = archives.find(services.database, run.run_id) if run.artifacts_location else None
    if archived is None:
        raise Problem(HTTPStatus.NOT_FOUND, "artifacts_absent", "The run has left no artifacts.")
    if archived.pruned_at is not None:
        detail = f"The run's artifacts were removed on {archived.pruned_at:%Y-%m-%d}, because of their age."
        raise Problem(HTTPStatus.NOT_FOUND, "artifacts_pruned", detail)
    if services.store.location(archived.prefix) != archived.location:
        detail = "The run's artifacts are in another store than this console's."
        raise Problem(HTTPStatus.NOT_FOUND, "artifacts_elsewhere", detail)
    return open_set(services.store, archived.prefix, archived.index_sha256)


@router.get("/runs/{run_id}/artifacts/{name:path}")
def download(run_id: UUID, name: str, services: ServicesOf, viewer: Viewer) -> Response:
    """A file as it was archived. Only names of the index lead to one."""
    left = open_left(services, visible_run(services, viewer, run_id))
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(PurePosixPath(name).name, safe='')}",
        "Content-Security-Policy": _POLICY_OF_FILES,
    }
    if name == INDEX_NAME:
        return Response(left.index, headers=headers, media_type=content_type_of(name))
    return _streamed(left, _file(left, name), headers)


@router.get("/runs/{run_id}/docs")
def to_docs(run_id: UUID, services: ServicesOf, viewer: Viewer) -> Response:
    """On to where the site is."""
    visible_run(services, viewer, run_id)
    return redirect(f"/runs/{run_id}/docs/")


@router.get("/runs/{run_id}/docs/")
def show_docs(run_id: UUID, services: ServicesOf, viewer: Viewer) -> Response:
    """dbt's docs of the run, under a policy of their own."""
    left = open_left(services, visible_run(services, viewer, run_id))
    headers = {
        "Content-Security-Policy": _POLICY_OF_DOCS,
        # Browsers refuse a sandboxed page that wants to be apart from its opener by this header; it is by the sandbox.
        "Cross-Origin-Opener-Policy": "unsafe-none",
    }
    return _streamed(left, _file(left, PAGE_NAME), headers)


def _file(left: OpenSet, name: str) -> ArchivedFile:
    file = left.find(name)
    if file is None:
        raise Problem(HTTPStatus.NOT_FOUND, "artifact_absent", "The run has left no such file.")
    return file


def _streamed(left: OpenSet, file: ArchivedFile, headers: dict[str, str]) -> Response:
    """The file. One that is damaged is refused before anything is sent, or, if it is long, never comes whole."""
    pieces: Iterator[bytes] = left.pieces(file)
    first = next(pieces, b"")
    media_type = content_type_of(file.name)
    return StreamingResponse(
        chain([first], pieces),
        headers=headers | {"Content-Length": str(file.content_size)},
        media_type=f"{media_type}; charset=utf-8" if media_type == "text/html" else media_type,
    )
