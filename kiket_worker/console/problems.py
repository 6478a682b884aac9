"""Every error as a problem document (RFC 9457), and what of an error may be told."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kiket_worker import errors, events
from kiket_worker.errors import KiketError, place_of
from kiket_worker.ledger.database import is_storable

MEDIA_TYPE = "application/problem+json"

# What the kinds of `KiketError` become. Words of 5xx stay in the log: they may name hosts.
_STATUS: Mapping[type[KiketError], HTTPStatus] = {
    errors.UnknownOrganization: HTTPStatus.NOT_FOUND,
    errors.UnknownRun: HTTPStatus.NOT_FOUND,
    errors.UnknownVersion: HTTPStatus.NOT_FOUND,
    errors.RunNotCancellable: HTTPStatus.CONFLICT,
    errors.OrganizationDisabled: HTTPStatus.CONFLICT,
    errors.OrganizationQuarantined: HTTPStatus.CONFLICT,
    errors.InvalidSlug: HTTPStatus.CONFLICT,
    errors.UsageError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ServiceUnreachable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.LedgerNotMigrated: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.LedgerForbidden: HTTPStatus.SERVICE_UNAVAILABLE,
}
# In place of the words for the command line.
_DETAILS: Mapping[str, str] = {
    errors.UnknownOrganization.kind: "There is no such organisation.",
    errors.UnknownRun.kind: "There is no such run.",
    errors.UnknownVersion.kind: "There is no such version of the organisation's definitions.",
    errors.RunNotCancellable.kind: "The run has ended already.",
    errors.OrganizationDisabled.kind: "Analytics is not enabled for the organisation.",
    errors.OrganizationQuarantined.kind: "The organisation is in quarantine: its refreshes have crashed their workers.",
    errors.InvalidSlug.kind: "The organisation's slug gives no schema.",
    errors.SchemaTaken.kind: "The organisation's slug gives the schema of another one.",
}
_RETRY_SECONDS = "5"


class ProblemError(BaseModel):
    """One thing that is wrong with a request."""

    model_config = ConfigDict(extra="forbid")

    where: str
    """Which part of the request, as `query.since`."""
    message: str


class ProblemDocument(BaseModel):
    """What went wrong (RFC 9457)."""

    model_config = ConfigDict(extra="forbid", title="Problem", use_attribute_docstrings=True)

    type: str
    """`urn:kiket:problem:` and the kind."""
    title: str
    """The status in words."""
    status: int
    detail: str
    """What happened here, for people."""
    kind: str
    """A word to select by."""
    errors: list[ProblemError] | None = None
    """What is wrong with the request, one by one; only where it was not understood."""


class Problem(Exception):
    """An answer that is no success. `kind` is a word to select by, `detail` a sentence for people."""

    def __init__(
        self,
        status: HTTPStatus,
        kind: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        wrong: Sequence[ProblemError] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = headers
        self.wrong = wrong

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        found = ProblemDocument(
            type=f"urn:kiket:problem:{self.kind}",
            title=self.status.phrase,
            status=self.status,
            detail=self.detail,
            kind=self.kind,
            errors=list(self.wrong) or None,
        )
        return found.model_dump(exclude_none=True)

    def response(self) -> Response:
        """The answer."""
        return JSONResponse(self.document(), self.status, dict(self.headers or {}), MEDIA_TYPE)


def problem_of(fault: Exception) -> Problem:
    """What is answered to an error. One that is not the caller's is written to the log too."""
    if isinstance(fault, Problem):
        return fault
    if isinstance(fault, HTTPException):
        status = HTTPStatus(fault.status_code)
        return Problem(status, status.name.lower(), _http_detail(status), headers=fault.headers)
    if isinstance(fault, RequestValidationError):
        wrong = [ProblemError(where=_where(error["loc"]), message=_printable(error["msg"])) for error in fault.errors()]
        return Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY, "request_invalid", "The request was not understood.", wrong=wrong
        )
    if isinstance(fault, KiketError):
        return _of_product(fault)
    events.CONSOLE_FAILED.log(error_kind="internal", error=place_of(fault))
    return _internal("internal")


def _of_product(fault: KiketError) -> Problem:
    status = next((_STATUS[of] for of in type(fault).__mro__ if of in _STATUS), HTTPStatus.INTERNAL_SERVER_ERROR)
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return Problem(status, fault.kind, _DETAILS.get(fault.kind) or _printable(str(fault)))
    events.CONSOLE_FAILED.log(error_kind=fault.kind, error=" ".join(str(fault).split()))
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        detail = "A service that the console stands on does not answer as it should; its log says which."
        return Problem(status, fault.kind, detail, headers={"Retry-After": _RETRY_SECONDS})
    return _internal(fault.kind)


def _internal(kind: str) -> Problem:
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, kind, "Something went wrong here; the console's log says what.")


Page = Callable[[Request, Problem], Response | None]


def install(app: FastAPI, check: Callable[[Request], object], page: Page) -> None:
    """Have the application answer every error that its routes raise: `page` where it gives one, or a problem document.

    `check` raises `Problem` for a request that is nobody's: a body is read before it is known whose it is, and who has
    no token is not told what is wrong with one.
    """

    def answer(request: Request, fault: Exception) -> Response:
        try:
            if isinstance(fault, RequestValidationError) or _is_bad(fault):
                check(request)
        except (Problem, KiketError) as refusal:
            fault = refusal
        problem = problem_of(fault)
        return page(request, problem) or problem.response()

    for kind in (Problem, KiketError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, answer)


class Faults:
    """Middleware that answers whatever else is raised, so that no server prints a traceback or says its own words."""

    def __init__(self, app: ASGIApp, page: Page) -> None:
        self._app = app
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def observe(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, observe)
        except Exception as fault:
            problem = problem_of(fault)
            if has_begun:
                raise ConnectionAbortedError from None  # What was sent cannot be taken back: the connection ends.
            answer = self._page(Request(scope), problem) or problem.response()
            await answer(scope, receive, send)


def _is_bad(fault: Exception) -> bool:
    return isinstance(fault, HTTPException) and fault.status_code == HTTPStatus.BAD_REQUEST


def _http_detail(status: HTTPStatus) -> str:
    # Starlette's own words of a 404 or a 405; others come from reading a body, and may repeat it.
    return {
        HTTPStatus.NOT_FOUND: "There is nothing at this address.",
        HTTPStatus.METHOD_NOT_ALLOWED: "This address does not take that method; `Allow` names those that it takes.",
        HTTPStatus.BAD_REQUEST: "The request's body cannot be read: it has to be JSON in UTF-8.",
    }.get(status, f"{status.phrase}.")


def _where(location: Sequence[int | str]) -> str:
    return _printable(".".join(map(str, location)))


def _printable(text: str) -> str:
    line = " ".join(text.split())
    return line if is_storable(line) else line.encode(errors="replace").decode()
