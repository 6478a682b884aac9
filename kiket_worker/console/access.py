"""Who asks, and what they may see: operators everything, an organisation itself and nothing else.

What somebody may not see is answered as if it did not exist, by the same code with the same words.
"""

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request
from fastapi.security import APIKeyCookie, HTTPBearer

from kiket_worker import events
from kiket_worker.console.problems import Problem
from kiket_worker.console.services import Services
from kiket_worker.errors import UnknownOrganization, UnknownRun
from kiket_worker.ledger import organizations, runs, tokens
from kiket_worker.ledger.organizations import Organization
from kiket_worker.ledger.runs import Run
from kiket_worker.ledger.tokens import Holder

# Set by the pages' sign-in, with the token as its value: HttpOnly, SameSite=Strict.
SESSION_COOKIE = "kiket_session"

_SAFE = frozenset({"GET", "HEAD"})
_bearer = HTTPBearer(auto_error=False, scheme_name="token", description="A token of `kiket-worker tokens create`.")
_cookie = APIKeyCookie(
    name=SESSION_COOKIE, auto_error=False, scheme_name="session", description="The pages' own; for reading only."
)


def services_of(request: Request) -> Services:
    """The application's services."""
    services: Services = request.app.state.services
    return services


def holder_of(services: Services, secret: str | None, address: str) -> Holder:
    """Whose token it is. Raises `Problem`: 401 for none that is good, 429 for too many that were not."""
    digest = tokens.digest(secret) if secret else None
    if seconds := services.failures.wait_seconds(address, digest):
        raise Problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            "too_many_failures",
            "Too many requests from this address had no valid token; wait as long as `Retry-After` says.",
            headers={"Retry-After": str(seconds)},
        )
    holder = tokens.use(services.database, secret) if secret else None
    if holder is not None and digest is not None:
        services.failures.succeeded(address, digest)
        return holder
    if digest is not None:
        services.failures.forget(address, digest)
    if services.failures.failed(address):
        events.ACCESS_LIMITED.log(client=address)
    raise Problem(
        HTTPStatus.UNAUTHORIZED,
        "token_invalid" if secret else "token_missing",
        "A valid token is needed: `Authorization: Bearer …`.",
        headers={"WWW-Authenticate": "Bearer"},
    )


def address_of(request: Request) -> str:
    """The client's address; behind proxies that are trusted, the one that they name."""
    return request.client.host if request.client else "unknown"


def bearer_of(request: Request) -> str | None:
    """The token of the `Authorization` header; the empty text where there is one without a token."""
    given = request.headers.get("authorization")
    if given is None:
        return None
    scheme, _, secret = given.partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def caller_of(request: Request, services: Services) -> Holder:
    """Who calls the API: by the header, or for reading by the pages' cookie. Raises `Problem`.

    A browser sends the cookie along whoever made it ask; what changes something is not taken from a cookie alone.
    """
    known: Holder | None = getattr(request.state, "caller", None)
    if known is not None:
        return known
    secret = bearer_of(request)
    if secret is None and request.method in _SAFE:
        secret = request.cookies.get(SESSION_COOKIE)
    request.state.caller = holder_of(services, secret, address_of(request))
    found: Holder = request.state.caller
    return found


def _caller(
    request: Request,
    services: Annotated[Services, Depends(services_of)],
    _bearer_scheme: Annotated[object, Depends(_bearer)],
    _cookie_scheme: Annotated[object, Depends(_cookie)],
) -> Holder:
    return caller_of(request, services)


Caller = Annotated[Holder, Depends(_caller)]
ServicesOf = Annotated[Services, Depends(services_of)]


def visible_organization(services: Services, caller: Holder, slug: str) -> Organization:
    """The organisation of a slug. Raises `UnknownOrganization` if there is none that the caller may see."""
    found = organizations.find(services.database, slug)
    if not sees(caller, found.organization_id):
        raise UnknownOrganization(slug)
    return found


def visible_run(services: Services, caller: Holder, run_id: UUID) -> Run:
    """The run of an id. Raises `UnknownRun` if there is none that the caller may see."""
    found = runs.get(services.database, run_id)
    if not sees(caller, found.organization_id):
        raise UnknownRun(f"no run has the id {run_id}")
    return found


def visible_id(services: Services, caller: Holder, slug: str | None) -> int | None:
    """The id of the organisation that a list is limited to; None for all. Raises `UnknownOrganization`."""
    if slug is None:
        return caller.organization_id
    return visible_organization(services, caller, slug).organization_id


def sees(caller: Holder, organization_id: int) -> bool:
    """Whether the caller may see what is this organisation's."""
    return caller.organization_id is None or caller.organization_id == organization_id
