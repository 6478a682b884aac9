"""How each of the console's pages is asked for, and who is answered what."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

import httpx

from kiket_worker.console.access import SESSION_COOKIE
from kiket_worker.console.pages.session import CSRF_FIELD, csrf_of
from tests.support.console import PLAIN, Served


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
    "GET /runs/{run_id}": AskedPage("GET", "/runs/RUN"),
    "POST /runs/{run_id}/cancel": AskedPage("POST", "/runs/RUN/cancel"),
    # There is nothing to ask for again while it waits.
    "POST /runs/{run_id}/retry": AskedPage("POST", "/runs/RUN/retry", ops=422, own=422),
    # It has left nothing yet; test_console_run_pages.py has runs that have.
    "GET /runs/{run_id}/artifacts/{name:path}": AskedPage("GET", "/runs/RUN/artifacts/dbt.log", ops=404, own=404),
    "GET /runs/{run_id}/docs": AskedPage("GET", "/runs/RUN/docs", ops=303, own=303),
    "GET /runs/{run_id}/docs/": AskedPage("GET", "/runs/RUN/docs/", ops=404, own=404),
    # Nothing is published.
    "GET /organizations/{slug}/versions/{number}": AskedPage("GET", "/organizations/acme/versions/1", ops=404, own=404),
    "GET /organizations/{slug}/versions/{number}/diff": AskedPage(
        "GET", "/organizations/acme/versions/1/diff?repository=main&path=a", ops=404, own=404
    ),
    "GET /organizations/{slug}/dashboards/{repository}/{dashboard_id}": AskedPage(
        "GET", "/organizations/acme/dashboards/main/team", ops=404, own=404
    ),
    "POST /sign-out": AskedPage("POST", "/sign-out", ops=303, own=303, others=303, names_nobody_else=True),
}
# For who has not signed in yet.
OPEN_PAGES = {"GET /sign-in", "POST /sign-in", "GET /static/{name:path}"}


def session(served: Served, token: str | None) -> httpx.Client:
    """A browser that has signed in with this token."""
    cookies = {} if token is None else {SESSION_COOKIE: token}
    return httpx.Client(base_url=served.url, cookies=cookies, timeout=30, verify=PLAIN)


def ask_page(client: httpx.Client, asked: AskedPage, run_id: object, *, csrf: str | None = None) -> httpx.Response:
    """Ask as the page's own form or link does; with another `csrf`, as somebody else's."""
    path = asked.path.replace("RUN", str(run_id))
    if asked.method == "GET":
        return client.get(path)
    token = csrf_of(client.cookies.get(SESSION_COOKIE) or "") if csrf is None else csrf
    return client.post(path, data=asked.form | {CSRF_FIELD: token})


class _Tables(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[list[str]]] = {}
        self._name = ""
        self._rows: list[list[str]] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._name = dict(attrs).get("id") or self._name
        if tag == "table":
            self._rows = self.found[self._name] = []
        elif self._rows is not None and tag == "tr":
            self._rows.append([])
        elif self._rows is not None and tag in {"th", "td"}:
            self._rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self._rows = None

    def handle_data(self, data: str) -> None:
        if self._rows and self._rows[-1]:
            self._rows[-1][-1] = f"{self._rows[-1][-1]}{data}".strip()


def tables(html: str) -> dict[str, list[list[str]]]:
    """The rows of a page's tables as texts, without the heads, by the id that comes last before each."""
    parser = _Tables()
    parser.feed(html)
    return {name: rows[1:] for name, rows in parser.found.items()}
