"""Who looks at the pages: sign-in by a token, which a cookie holds from then on, and proof that a change is wanted.

Browsers send the cookie along whoever makes them ask. `SameSite=Strict` keeps other sites from that, and each changing
request has to name a token that only our own pages know besides (CSRF): the HMAC of a fixed text with the cookie's
value as its key. So nothing has to be kept here, and any console process may answer.
"""

import hmac
import re
import secrets
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated
from urllib.parse import parse_qsl, quote, urlsplit

from fastapi import APIRouter, Depends, Request, Response

from kiket_worker.console.access import SESSION_COOKIE, ServicesOf, address_of, holder_of, services_of
from kiket_worker.console.pages.rendering import redirect, render
from kiket_worker.console.problems import Problem
from kiket_worker.console.services import Services
from kiket_worker.ledger.tokens import Holder

CSRF_FIELD = "csrf"
CSRF_HEADER = "X-CSRF-Token"
SIGN_IN = "/sign-in"

# Before somebody has signed in, what a sign-in's token is made of: nobody may be signed in by another site's form.
_VISITOR_COOKIE = "kiket_visitor"
_SAFE = frozenset({"GET", "HEAD"})
_FORM_TYPE = "application/x-www-form-urlencoded"
_FIELD_LIMIT = 50
_CONTROL = re.compile(r"[\x00-\x20\x7f\\]")


async def _form_of(request: Request) -> Mapping[str, str]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM_TYPE:
        return {}
    try:
        body = (await request.body()).decode("ascii")
        pairs = parse_qsl(body, keep_blank_values=True, errors="strict", max_num_fields=_FIELD_LIMIT)
    except ValueError:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "form_invalid", "The form was not understood.") from None
    return dict(pairs)


Form = Annotated[Mapping[str, str], Depends(_form_of)]


def _viewer_of(request: Request, services: Annotated[Services, Depends(services_of)]) -> Holder:
    secret = request.cookies.get(SESSION_COOKIE)
    if not secret:  # No failure: nobody has tried a token.
        raise Problem(HTTPStatus.UNAUTHORIZED, "not_signed_in", "Sign in first.")
    request.state.viewer = holder_of(services, secret, address_of(request))
    request.state.csrf = csrf_of(secret)
    found: Holder = request.state.viewer
    return found


# Whose session it is. Raises `Problem` 401, which becomes a way to the sign-in.
Viewer = Annotated[Holder, Depends(_viewer_of)]


def _guard(request: Request, _viewer: Viewer, form: Form) -> None:
    if request.method not in _SAFE:
        _check_csrf(request, form, request.cookies.get(SESSION_COOKIE, ""))


def pages_router(prefix: str = "") -> APIRouter:
    """A router for pages: nobody gets at its routes who is not signed in, and none changes anything without our form.

    Handlers take `Viewer` for who it is, and `Form` for what was sent.
    """
    return APIRouter(prefix=prefix, dependencies=[Depends(_guard)])


def csrf_of(secret: str) -> str:
    """The token that changing requests of a session have to name."""
    return hmac.digest(secret.encode(errors="replace"), b"kiket console csrf", "sha256").hex()


def _check_csrf(request: Request, form: Mapping[str, str], secret: str) -> None:
    given = request.headers.get(CSRF_HEADER) or form.get(CSRF_FIELD, "")
    is_ours = request.headers.get("sec-fetch-site", "same-origin") in {"same-origin", "none"}
    if not (secret and is_ours and hmac.compare_digest(given.encode(), csrf_of(secret).encode())):
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "csrf_refused",
            "The form was not of this session, or is from before you signed in again. Nothing was changed: go back, "
            "reload the page and try again.",
        )


def safe_next(target: str) -> str:
    """A path of ours to go on to after signing in: the given one, or the first page for what leads elsewhere."""
    parts = urlsplit(target) if target.startswith("/") and not _CONTROL.search(target) else None
    if parts is None or target.startswith("//") or parts.netloc or parts.path.startswith((SIGN_IN, "/sign-out")):
        return "/"
    return target


def sign_in_address(request: Request) -> str:
    """Where somebody signs in who then goes on to what this request was about."""
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if "hx-request" in request.headers:  # A part of a page: on to the page itself.
        current = urlsplit(request.headers.get("hx-current-url", ""))
        target = current.path + (f"?{current.query}" if current.query else "")
    elif request.method not in _SAFE:
        target = "/"
    target = safe_next(target)
    return SIGN_IN if target == "/" else f"{SIGN_IN}?next={quote(target, safe='/')}"


router = APIRouter()


@router.get(SIGN_IN)
def show_sign_in(request: Request, next: str = "/") -> Response:  # noqa: A002  # the parameter's name
    """The form. Who is signed in already may sign in with another token."""
    return _sign_in_form(request, safe_next(next))


@router.post(SIGN_IN)
def sign_in(request: Request, services: ServicesOf, form: Form) -> Response:
    """Keep the token in a cookie, if it is good."""
    target = safe_next(form.get("next", "/"))
    _check_csrf(request, form, request.cookies.get(_VISITOR_COOKIE, ""))
    secret = form.get("token", "").strip()
    try:
        holder_of(services, secret or None, address_of(request))
    except Problem as problem:
        return _sign_in_form(request, target, problem)
    response = redirect(target)
    response.set_cookie(SESSION_COOKIE, secret, httponly=True, samesite="strict", secure=_is_secure(request))
    response.delete_cookie(_VISITOR_COOKIE, path=SIGN_IN)
    return response


_leaving = pages_router()


@_leaving.post("/sign-out")
def sign_out(request: Request) -> Response:
    """Forget the token here; it stays good elsewhere until it expires or is revoked."""
    response = redirect(SIGN_IN)
    forget(request, response)
    return response


router.include_router(_leaving)


def forget(request: Request, response: Response) -> None:
    """Have the browser forget its session."""
    response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict", secure=_is_secure(request))


def _sign_in_form(request: Request, target: str, problem: Problem | None = None) -> Response:
    visitor = request.cookies.get(_VISITOR_COOKIE) or secrets.token_urlsafe(32)
    request.state.csrf = csrf_of(visitor)
    status = HTTPStatus.OK if problem is None else problem.status
    response = render(request, "sign_in.html.jinja", status=status, next=target, problem=problem)
    for name, value in (problem.headers or {}).items() if problem else ():
        if name == "Retry-After":
            response.headers[name] = value
    response.set_cookie(
        _VISITOR_COOKIE, visitor, path=SIGN_IN, httponly=True, samesite="strict", secure=_is_secure(request)
    )
    return response


def _is_secure(request: Request) -> bool:
    """Whether the request came by TLS, perhaps to a proxy in front of us that is trusted to say so."""
    return request.url.scheme == "https"
