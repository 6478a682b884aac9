"""Errors as pages, for who reads them in a browser."""

from http import HTTPStatus

from fastapi import Request, Response

from kiket_worker.console.access import SESSION_COOKIE
from kiket_worker.console.pages.rendering import redirect, render
from kiket_worker.console.pages.session import forget, sign_in_address
from kiket_worker.console.problems import Problem


def is_of_pages(request: Request) -> bool:
    """Whether a page is answered at this address, or would be if there was one, rather than something for programs."""
    return not request.url.path.startswith(("/api", "/static"))


def page_of(request: Request, problem: Problem) -> Response | None:
    """The problem as a page; who is not signed in (any more) is led to the sign-in. None where programs ask."""
    if not is_of_pages(request):
        return None
    if problem.status is HTTPStatus.UNAUTHORIZED:
        return _to_sign_in(request)
    response = render(request, "error.html.jinja", status=problem.status, problem=problem)
    response.headers.update(problem.headers or {})
    return response


def _to_sign_in(request: Request) -> Response:
    if SESSION_COOKIE not in request.cookies and _comes_by_link(request):
        # `SameSite=Strict` has kept the cookie back. Asked for by our own page, it comes along, if there is one.
        return render(request, "again.html.jinja")
    response = redirect(sign_in_address(request))
    if "hx-request" in request.headers:  # htmx would put the sign-in into the page.
        response = Response(status_code=HTTPStatus.OK, headers={"HX-Redirect": sign_in_address(request)})
    if SESSION_COOKIE in request.cookies:
        forget(request, response)
    return response


def _comes_by_link(request: Request) -> bool:
    """Whether somebody has followed a link of another site, as a chat."""
    given = {name: request.headers.get(f"sec-fetch-{name}") for name in ("site", "mode", "dest")}
    return request.method == "GET" and given in [
        {"site": site, "mode": "navigate", "dest": "document"} for site in ("cross-site", "same-site")
    ]
