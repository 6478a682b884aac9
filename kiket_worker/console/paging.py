"""Pages of lists: each says where the next one begins, by the last entry and not by a count (keyset)."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from http import HTTPStatus
from typing import Annotated, Generic, TypeVar

from fastapi import Query, Request, Response
from pydantic import BaseModel

from kiket_worker.console.problems import Problem
from kiket_worker.ledger.database import is_storable

_T = TypeVar("_T")

PAGE_LIMIT = 200

Limit = Annotated[int, Query(ge=1, le=PAGE_LIMIT, description="At most so many.")]
Cursor = Annotated[
    str | None, Query(max_length=512, description="Where the page begins: `next_cursor` of the one before.")
]


class Page(BaseModel, Generic[_T]):
    """Some entries of a list. `next_cursor` is null where there are no more."""

    items: list[_T]
    next_cursor: str | None


def encoded(*parts: str) -> str:
    """A cursor that says where the page ended. Opaque to callers, and no secret."""
    return urlsafe_b64encode(json.dumps(parts, separators=(",", ":")).encode()).rstrip(b"=").decode()


def decoded(cursor: str, count: int) -> list[str]:
    """The parts of a cursor. Raises `Problem`."""
    try:
        parts = json.loads(urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)))
    except (Base64Error, ValueError, RecursionError):
        parts = None
    if (
        not isinstance(parts, list)
        or len(parts) != count
        or not all(isinstance(part, str) and is_storable(part) for part in parts)
    ):
        raise invalid_cursor()
    return parts


def invalid_cursor() -> Problem:
    """The answer to a cursor that this list has not given."""
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "cursor_invalid",
        "The cursor is none of this list's: begin without, and follow `next_cursor`.",
    )


def link_next(request: Request, response: Response, next_cursor: str | None) -> None:
    """Name the next page in the header `Link` as well (RFC 8288)."""
    if next_cursor:
        url = request.url.include_query_params(cursor=next_cursor)
        response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
