"""How each of the console's pages is asked for, and who is answered what."""

from dataclasses import dataclass, field

import httpx

from kiket_worker.console.access import SESSION_COOKIE
from kiket_worker.console.pages.session import CSRF_FIELD, csrf_of
from tests.support.console import Served


@dataclass(frozen=True)
class AskedPage:
    """A page that is about acme. `own` is what acme gets, `ops` what operators, `others` what blue-harbor gets."""

    method: str
    path: str
    ops: int = 200
    own: int = 200
    others: int = 404
    form: dict[str, str] = field(default_factory=dict)
    # The answer must not name the other organisation, where `others` is no refusal.
    names_nobody_else: bool = False


# RUN stands for a run of acme's.
PAGES = {
    "GET /": AskedPage("GET", "/", own=303, others=303, names_nobody_else=True),
    "GET /organizations": AskedPage("GET", "/organizations", own=303, others=303, names_nobody_else=True),
    "GET /organizations/{slug}": AskedPage("GET", "/organizations/acme?run=RUN"),
    "POST /organizations/{slug}/refresh": AskedPage("POST", "/organizations/acme/refresh", ops=303, own=303),
    "POST /organizations/{slug}/settings": AskedPage(
        "POST", "/organizations/acme/settings", form={"refreshes": "pause", "interval": "own", "hours": "5"}
    ),
    "GET /runs": AskedPage("GET", "/runs?organization=acme"),
    "POST /sign-out": AskedPage("POST", "/sign-out", ops=303, own=303, others=303, names_nobody_else=True),
}
# For who has not signed in yet.
OPEN_PAGES = {"GET /sign-in", "POST /sign-in", "GET /static/{name:path}"}


def session(served: Served, token: str | None) -> httpx.Client:
    """A browser that has signed in with this token."""
    cookies = {} if token is None else {SESSION_COOKIE: token}
    return httpx.Client(base_url=served.url, cookies=cookies, timeout=30)


def ask_page(client: httpx.Client, asked: AskedPage, run_id: object, *, csrf: str | None = None) -> httpx.Response:
    """Ask as the page's own form or link does; with another `csrf`, as somebody else's."""
    path = asked.path.replace("RUN", str(run_id))
    if asked.method == "GET":
        return client.get(path)
    token = csrf_of(client.cookies.get(SESSION_COOKIE) or "") if csrf is None else csrf
    return client.post(path, data=asked.form | {CSRF_FIELD: token})
