"""Scripts, styles and pictures of the pages, from the package and from nowhere else."""

import hashlib
import mimetypes
from functools import cache
from http import HTTPStatus
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from kiket_worker.console.problems import Problem

_FOLDER = Path(__file__).parent / "static"
_YEAR = "public, max-age=31536000, immutable"

router = APIRouter()


def static_url(name: str) -> str:
    """The address of a static file, which changes with what is in it, so that browsers may keep it."""
    return f"/static/{name}?v={_known()[name]}"


@router.get("/static/{name:path}")
def static_file(name: str, request: Request) -> Response:
    """One of the files that the package has; they are the same for everybody, so that no session is needed."""
    version = _known().get(name)
    if version is None:
        raise Problem(HTTPStatus.NOT_FOUND, "not_found", "There is nothing at this address.")
    kept = _YEAR if request.query_params.get("v") == version else "no-cache"
    return FileResponse(_FOLDER / name, headers={"Cache-Control": kept}, media_type=mimetypes.guess_type(name)[0])


@cache
def _known() -> dict[str, str]:
    """The files by their names, each with a digest."""
    return {
        path.relative_to(_FOLDER).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in sorted(_FOLDER.rglob("*"))
        if path.is_file()
    }
