"""The API's document (OpenAPI 3.1), with every problem that a route may answer."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from kiket_worker import __version__
from kiket_worker.console.api import PREFIX
from kiket_worker.console.problems import MEDIA_TYPE, ProblemDocument

_REFERENCE = "#/components/schemas/Problem"
# Whatever the route: no token, a body that is no text, late or too large, a request that is not understood, too many
# failures, and our faults.
_ANYWHERE = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_MAY_RETRY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
_DESCRIPTION = (
    "Runs, freshness and usage of organisations' analytics. Every request needs a token: `Authorization: Bearer …`. "
    "What a token may not see does not exist for it. Errors are problem documents (RFC 9457). Lists come in pages, "
    "newest or first by name; `next_cursor` leads to the next one."
)


def problems(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """The part of a route's document that names its own problems."""
    return {int(status): _problem(status) for status in statuses}


def document_of(app: FastAPI) -> dict[str, Any]:
    """The whole document."""
    document = get_openapi(
        title="Kiket analytics",
        version=__version__,
        description=_DESCRIPTION,
        routes=app.routes,
        servers=[{"url": "/"}],
    )
    schemas = document["components"]["schemas"]
    definitions = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= definitions.pop("$defs", {}) | {"Problem": definitions}
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for path, operations in document["paths"].items():
        assert path.startswith(PREFIX)
        for operation in operations.values():
            operation["responses"] |= {str(int(status)): _problem(status) for status in _ANYWHERE}
            # One of the two, not both.
            operation["security"] = [{"token": []}] + ([{"session": []}] if operation is operations.get("get") else [])
    return document


def _problem(status: HTTPStatus) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": status.phrase,
        "content": {MEDIA_TYPE: {"schema": {"$ref": _REFERENCE}}},
    }
    if status in _MAY_RETRY:
        described["headers"] = {
            "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
        }
    return described
