"""Who sees what: every route is asked with every scope, and a route that is not listed here fails."""

from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from kiket_worker.console.access import SESSION_COOKIE
from kiket_worker.ledger import runs, tokens
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.runs import Request
from tests.support.console import API, Console, Served
from tests.support.pages import OPEN_PAGES, PAGES

ACME, HARBOR = (1, "acme"), (2, "blue-harbor")


@dataclass(frozen=True)
class Asked:
    """How a route is asked for something of acme's. `own` is what acme and operators get, `others` what harbor gets."""

    method: str
    path: str
    own: int = 200
    others: int = 404
    body: Any = None
    # The answer must not name the other organisation, where `others` is no refusal.
    names_nobody_else: bool = False


ROUTES = {
    f"GET {API}/organizations": Asked("GET", "/organizations", others=200, names_nobody_else=True),
    f"GET {API}/organizations/{{slug}}": Asked("GET", "/organizations/acme"),
    f"POST {API}/organizations/{{slug}}/refresh": Asked("POST", "/organizations/acme/refresh", own=202, body={}),
    f"GET {API}/organizations/{{slug}}/settings": Asked("GET", "/organizations/acme/settings"),
    f"PATCH {API}/organizations/{{slug}}/settings": Asked("PATCH", "/organizations/acme/settings", body={"docs": True}),
    f"GET {API}/runs": Asked("GET", "/runs?organization=acme"),
    f"GET {API}/runs/{{run_id}}": Asked("GET", "/runs/RUN"),
    f"GET {API}/runs/{{run_id}}/events": Asked("GET", "/runs/RUN/events"),
    f"POST {API}/runs/{{run_id}}/cancel": Asked("POST", "/runs/RUN/cancel", own=202),
    f"GET {API}/usage": Asked("GET", "/usage?organization=acme"),
}
# The same for everybody.
OPEN = {f"GET {API}/openapi.json", "GET /healthz"}


def routes_of(app: FastAPI) -> set[str]:
    """Every route by method and path, those of pages too; what is mounted has no methods and is named as it is."""
    found = set()
    for route in iter_route_contexts(app.routes):
        found |= {f"{method} {route.path}" for method in route.methods or ["MOUNTED"]}
    return found


def ask(client: httpx.Client, asked: Asked, run_id: object) -> httpx.Response:
    path = API + asked.path.replace("RUN", str(run_id))
    with client.stream(asked.method, path, json=asked.body) as answer:
        if "event-stream" not in answer.headers["content-type"]:
            answer.read()
        return answer


def test_every_route_is_listed(console: Console) -> None:
    assert routes_of(console.app()) == ROUTES.keys() | OPEN | PAGES.keys() | OPEN_PAGES


def test_whether_it_is_alive_is_told_to_anybody(served: Served) -> None:
    answer = httpx.get(f"{served.url}/healthz")

    assert (answer.status_code, answer.text) == (200, "ok\n")


@pytest.mark.parametrize("route", ROUTES)
def test_operators_and_the_organisation_itself_are_answered_and_nobody_else(
    served: Served, ledger: Database, route: str
) -> None:
    asked = ROUTES[route]
    run_id = runs.request(ledger, Request(*ACME)).run_id
    with served.client(HARBOR[0]) as harbor:
        answer = ask(harbor, asked, run_id)
        assert answer.status_code == asked.others, answer.text
        if asked.names_nobody_else:
            assert "blue-harbor" in answer.text
            assert "acme" not in answer.text
        else:
            # To the byte what is answered of what does not exist.
            nobody = Asked(asked.method, asked.path.replace("acme", "nobody"), body=asked.body)
            other = ask(harbor, nobody, "00000000-0000-7000-8000-000000000000")
            assert (answer.status_code, answer.text) == (other.status_code, other.text)
    # Nothing of it has happened.
    assert runs.get(ledger, run_id).status == "queued"
    for organization_id in (ACME[0], None):
        with served.client(organization_id) as client:
            answer = ask(client, asked, run_id)
            assert answer.status_code == asked.own, answer.text
        run_id = runs.request(ledger, Request(*ACME)).run_id


@pytest.mark.parametrize("route", ROUTES)
def test_without_a_valid_token_nothing_is_answered(served: Served, ledger: Database, route: str) -> None:
    run_id = runs.request(ledger, Request(*ACME)).run_id
    expired, revoked = served.console.token(), served.console.token()
    with served.console.ledger.transaction() as connection:
        connection.execute(
            "update kiket_analytics.tokens set expires_at = now() where digest = %s", [tokens.digest(expired)]
        )
        connection.execute(
            "update kiket_analytics.tokens set revoked_at = now() where digest = %s", [tokens.digest(revoked)]
        )
    wrong = [None, "", "kiket_", tokens.PREFIX + "A" * 43, served.console.token()[:-1], expired, revoked, "\xff"]
    bodies = set()
    for token in wrong:
        headers = [] if token is None else [(b"Authorization", (b"Bearer " + token.encode("latin-1")).strip())]
        with httpx.Client(base_url=served.url, headers=headers) as client:
            answer = ask(client, ROUTES[route], run_id)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            bodies.add(answer.text)
    assert len(bodies) <= 2  # With a token or without; nobody learns whether one was ever good.
    assert runs.get(ledger, run_id).status == "queued"


@pytest.mark.parametrize("scheme", ["Basic", "Token", "bearerx"])
def test_only_bearer_tokens_are_taken(served: Served, scheme: str) -> None:
    with httpx.Client(base_url=served.url) as client:
        answer = client.get(f"{API}/runs", headers={"Authorization": f"{scheme} {served.console.token()}"})
        assert answer.status_code == 401


@pytest.mark.parametrize("route", ROUTES)
def test_the_pages_cookie_is_good_for_reading_only(served: Served, ledger: Database, route: str) -> None:
    asked = ROUTES[route]
    run_id = runs.request(ledger, Request(*ACME)).run_id
    with httpx.Client(base_url=served.url, cookies={SESSION_COOKIE: served.console.token()}) as client:
        assert ask(client, asked, run_id).status_code == (asked.own if asked.method == "GET" else 401)


def test_the_token_of_an_organisation_that_is_gone_opens_nothing(served: Served, sample_database: Any) -> None:
    sample_database.execute(
        "insert into public.organizations (id, slug, name, plan, created_at) values (99, 'gone', 'G', 'team', now())"
    )
    with served.client(99) as client:
        assert client.get(f"{API}/organizations").json()["items"][0]["slug"] == "gone"
        sample_database.execute("delete from public.organizations where id = 99")
        assert client.get(f"{API}/organizations").status_code == 401


def test_an_organisations_token_lists_its_own_runs_and_usage_without_being_told(
    served: Served, ledger: Database
) -> None:
    own = runs.request(ledger, Request(*ACME)).run_id
    runs.request(ledger, Request(*HARBOR))
    with served.client(ACME[0]) as acme:
        assert [run["run_id"] for run in acme.get(f"{API}/runs").json()["items"]] == [str(own)]
    with served.client() as ops:
        assert len(ops.get(f"{API}/runs").json()["items"]) == 2


def test_use_of_a_token_is_written_down_coarsely(served: Served, ledger: Database) -> None:
    with served.client(ACME[0]) as client:
        assert tokens.newest(ledger)[0].last_used_at is None
        client.get(f"{API}/runs")
        first = tokens.newest(ledger)[0].last_used_at
        assert first is not None
        client.get(f"{API}/runs")
        assert tokens.newest(ledger)[0].last_used_at == first


def test_no_secret_is_in_the_ledger(console: Console, sample_database: Any) -> None:
    secret = console.token(ACME[0])
    rows = str(sample_database.rows("select * from kiket_analytics.tokens"))
    assert secret.removeprefix(tokens.PREFIX) not in rows


def test_an_idempotency_key_of_another_organisation_names_nothing(served: Served) -> None:
    with served.client(ACME[0]) as acme, served.client(HARBOR[0]) as harbor:
        key = {"Idempotency-Key": "the same"}
        first = acme.post(f"{API}/organizations/acme/refresh", headers=key).json()
        second = harbor.post(f"{API}/organizations/blue-harbor/refresh", headers=key).json()
        assert first["run_id"] != second["run_id"]
        assert second["organization"] == "blue-harbor"


@pytest.mark.parametrize(
    ("path", "body"),
    [("/organizations/acme/settings", b"{"), ("/organizations/acme/settings", b"\xff"), ("/runs/nonsense", b"")],
)
def test_who_asks_is_asked_before_what(served: Served, path: str, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    method = "PATCH" if body else "GET"
    with served.with_token(None) as nobody:
        assert nobody.request(method, API + path, content=body, headers=headers).status_code == 401
    with served.client() as ops:
        assert ops.request(method, API + path, content=body, headers=headers).status_code in {400, 422}
