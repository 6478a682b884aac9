"""Who is answered what by the pages, over HTTP: sessions, forms of others, errors, and what every answer carries."""

import re
from dataclasses import replace
from typing import Any

import httpx
import pytest

from kiket_worker.console.access import SESSION_COOKIE
from kiket_worker.console.app import create_app
from kiket_worker.console.pages.session import csrf_of, safe_next
from kiket_worker.ledger import organizations, runs
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.runs import Request
from tests.support.console import Console, Served, serving
from tests.support.pages import PAGES, AskedPage, ask_page, session

ACME, HARBOR = (1, "acme"), (2, "blue-harbor")
CHANGING = [name for name, asked in PAGES.items() if asked.method == "POST"]


def state(ledger: Database) -> tuple[Any, ...]:
    """What pages might change of acme."""
    found = organizations.find(ledger, "acme")
    return found.enabled, found.refresh_interval_hours, [run.run_id for run in runs.page(ledger, page_size=50)]


@pytest.mark.parametrize("name", PAGES)
def test_operators_and_the_organisation_itself_are_answered_and_nobody_else(
    served: Served, ledger: Database, name: str
) -> None:
    asked = PAGES[name]
    run_id = runs.request(ledger, Request(*ACME)).run_id
    before = state(ledger)
    with session(served, served.console.token(HARBOR[0])) as harbor:
        answer = ask_page(harbor, asked, run_id)
        assert answer.status_code == asked.others, answer.text
        assert "acme" not in answer.text.lower()
        if not asked.names_nobody_else:
            # To the byte what is answered of what does not exist.
            nobody = replace(asked, path=asked.path.replace("acme", "nobody"))
            other = ask_page(harbor, nobody, "00000000-0000-7000-8000-000000000000")
            assert (answer.status_code, answer.text) == (other.status_code, other.text)
    assert state(ledger) == before
    for organization_id, status in ((ACME[0], asked.own), (None, asked.ops)):
        with session(served, served.console.token(organization_id)) as client:
            answer = ask_page(client, asked, run_id)
            assert answer.status_code == status, answer.text
            if status == 200:
                assert answer.headers["content-type"] == "text/html; charset=utf-8"
                assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("name", PAGES)
def test_who_is_not_signed_in_is_led_to_the_sign_in(served: Served, ledger: Database, name: str) -> None:
    asked = PAGES[name]
    run_id = runs.request(ledger, Request(*ACME)).run_id
    before = state(ledger)
    for token in (None, "", "kiket_" + "A" * 43, "é"):
        headers = {"Cookie": f"{SESSION_COOKIE}={token}".encode("latin-1")} if token is not None else {}
        with httpx.Client(base_url=served.url, headers=headers) as client:
            answer = ask_page(client, asked, run_id, csrf=csrf_of(token or ""))
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/sign-in")
            assert answer.text == ""
            # A session that is none is forgotten; where none was named there may be one that other sites do not see.
            assert (f'{SESSION_COOKIE}=""' in answer.headers.get("set-cookie", "")) is (token is not None)
    assert state(ledger) == before


@pytest.mark.parametrize("name", CHANGING)
def test_nothing_is_changed_without_the_forms_own_token(served: Served, ledger: Database, name: str) -> None:
    asked = PAGES[name]
    token, other = served.console.token(), served.console.token()
    run_id = runs.request(ledger, Request(*ACME)).run_id
    before = state(ledger)
    with session(served, token) as client:
        for csrf in ("", "x", "é", csrf_of(other), csrf_of("")):
            answer = ask_page(client, asked, run_id, csrf=csrf)
            assert answer.status_code == 403
            assert "csrf_refused" in answer.text
            assert "set-cookie" not in answer.headers
        # Not as another kind of body, and not of another site, whatever it knows.
        path, form = asked.path.replace("RUN", str(run_id)), asked.form | {"csrf": csrf_of(token)}
        assert client.post(path, json=form).status_code == 403
        assert client.post(path, data=form, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        assert client.post(path, data=form, headers={"Sec-Fetch-Site": "same-site"}).status_code == 403
        assert client.get(path).status_code == 405
    assert state(ledger) == before
    with session(served, token) as client:
        answer = client.post(path, data=asked.form, headers={"X-CSRF-Token": csrf_of(token)})
        assert answer.status_code == asked.ops


def test_the_sign_in_takes_no_form_of_others(served: Served) -> None:
    with session(served, None) as client:
        token = served.console.token()
        assert client.post("/sign-in", data={"token": token}).status_code == 403
        page = client.get("/sign-in")
        csrf = page.text.partition('name="csrf" value="')[2][:64]
        with session(served, None) as stranger:
            stranger.get("/sign-in")
            assert stranger.post("/sign-in", data={"token": token, "csrf": csrf}).status_code == 403
        answer = client.post("/sign-in", data={"token": token, "csrf": csrf, "next": "/runs"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/runs")
        assert client.cookies[SESSION_COOKIE] == token


def sign_in(client: httpx.Client, token: str) -> httpx.Response:
    csrf = client.get("/sign-in").text.partition('name="csrf" value="')[2][:64]
    return client.post("/sign-in", data={"token": token, "csrf": csrf})


def test_who_tries_too_many_tokens_has_to_wait(served: Served) -> None:
    with session(served, None) as client:
        answers = [sign_in(client, "kiket_" + "A" * 43) for _ in range(25)]
        assert {answer.status_code for answer in answers[:10]} == {401}
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["retry-after"]) > 0
        assert "Too many requests" in answers[-1].text
        # Who only comes without a session has tried nothing.
        assert client.get("/runs").status_code == 303


@pytest.mark.parametrize(
    ("proxies", "scheme", "is_secure"),
    [("127.0.0.1", "https", True), ("127.0.0.1", "http", False), (None, "https", False)],
)
def test_cookies_are_for_tls_only_where_that_is_spoken(
    console: Console, proxies: str | None, scheme: str, is_secure: bool
) -> None:
    with (
        serving(console.app(), proxies=proxies) as url,
        httpx.Client(base_url=url, headers={"X-Forwarded-Proto": scheme}) as client,
    ):
        csrf_page = client.get("/sign-in")
        visitor = csrf_page.headers["set-cookie"]
        assert ("; Secure" in visitor) is is_secure
        headers = {"Cookie": visitor.partition(";")[0]}
        csrf = csrf_page.text.partition('name="csrf" value="')[2][:64]
        form = {"token": console.token(), "csrf": csrf}
        cookies = client.post("/sign-in", data=form, headers=headers).headers.get_list("set-cookie")
        (cookie,) = [cookie for cookie in cookies if cookie.startswith(SESSION_COOKIE)]
        assert ("; Secure" in cookie) is is_secure
        assert "; HttpOnly" in cookie
        assert "; SameSite=strict" in cookie
        assert "Domain" not in cookie


@pytest.mark.parametrize(
    ("target", "safe"),
    [
        ("/runs?status=failed&since=2026-01-01", "/runs?status=failed&since=2026-01-01"),
        ("/organizations/acme", "/organizations/acme"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("https://evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("", "/"),
        ("runs", "/"),
        ("/sign-in?next=/sign-in", "/"),
        ("/sign-out", "/"),
    ],
)
def test_after_the_sign_in_one_stays_on_this_site(target: str, safe: str) -> None:
    assert safe_next(target) == safe


def test_parts_of_pages_lead_the_whole_page_to_the_sign_in(served: Served) -> None:
    part = {"HX-Request": "true", "HX-Target": "figures"}
    with session(served, None) as client:
        current = {"HX-Current-URL": f"{served.url}/organizations/acme?run=x"}
        answer = client.get("/organizations/acme", headers=part | current)
        assert answer.headers["hx-redirect"] == "/sign-in?next=/organizations/acme%3Frun%3Dx"
        assert answer.text == ""
        answer = client.get("/organizations/acme", headers=part | {"HX-Current-URL": "https://evil.example//evil"})
        assert answer.headers["hx-redirect"] == "/sign-in"


def test_errors_are_pages_where_people_look_and_documents_where_programs_do(served: Served) -> None:
    with session(served, served.console.token()) as client:
        for path, status in (("/nothing", 404), ("/runs?status=odd", 422), ("/organizations/acme?run=x", 422)):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
            assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert client.get("/runs?since=yesterday").status_code == 422
        assert client.get("/runs?cursor=nonsense").status_code == 422
        assert client.get("/organizations?cursor=nonsense").status_code == 422
        for path in ("/api/v1/analytics/nothing", "/static/nothing", "/static/..%2fsession.py", "/static/vendor"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def test_a_fault_of_ours_is_a_page_that_does_not_say_what_it_was(console: Console, ledger: Database) -> None:
    def broken() -> Any:
        raise ValueError("a secret")

    services = console.services()
    services.__dict__["overview"] = broken
    with console.serving(create_app(services)) as served, session(served, console.token()) as client:
        answer = client.get("/")
        assert (answer.status_code, answer.headers["content-type"]) == (500, "text/html; charset=utf-8")
        assert "secret" not in answer.text
        assert "Something went wrong here" in answer.text


def test_static_files_are_kept_under_the_address_that_changes_with_them(served: Served) -> None:
    with session(served, None) as client:
        page = client.get("/sign-in").text
        addresses = [part.partition('"')[0] for part in page.split('="') if part.startswith("/static/")]
        assert len(addresses) >= 6
        for address in addresses:
            answer = client.get(address)
            assert answer.status_code == 200
            assert "immutable" in answer.headers["cache-control"]
            assert "set-cookie" not in answer.headers
        # An older page's address gives what is there now, and is not kept.
        assert client.get(addresses[0].partition("?")[0] + "?v=old").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("hours", ["0", "8761", "-1", "1.5", "", "٣", "1e3", "99999999999"])
def test_an_interval_that_is_none_changes_nothing(served: Served, ledger: Database, hours: str) -> None:
    asked = AskedPage(
        "POST",
        "/organizations/acme/settings",
        form={"refreshes": "go_on", "interval": "own", "hours": hours, "confirmed": "yes"},
    )
    with session(served, served.console.token()) as client:
        answer = ask_page(client, asked, None)
    assert answer.status_code == 422
    assert "interval_invalid" in answer.text
    assert organizations.find(ledger, "acme").refresh_interval_hours is None


def test_settings_change_only_when_they_are_confirmed(served: Served, ledger: Database) -> None:
    form = {"refreshes": "pause", "interval": "own", "hours": "5", "docs": "yes"}
    with session(served, served.console.token(ACME[0])) as client:
        page = ask_page(client, AskedPage("POST", "/organizations/acme/settings", form=form), None)
        assert page.status_code == 200
        assert "Refreshes pause" in page.text
        assert organizations.find(ledger, "acme").enabled

        def confirm(page: httpx.Response) -> httpx.Response:
            said = re.search(r'name="confirmed" value="([0-9a-f]{64})"', page.text)
            assert said is not None
            asked = AskedPage("POST", "/organizations/acme/settings", form=form | {"confirmed": said[1]})
            return ask_page(client, asked, None)

        # What was said is not what would be done any more: it is said anew.
        organizations.save_settings(ledger, ACME[0], refresh_interval_hours=9)
        page = confirm(page)
        assert page.status_code == 200
        assert "it is 9 h now" in page.text
        assert organizations.find(ledger, "acme").enabled
        assert confirm(page).headers["location"] == "/organizations/acme?notice=saved"
        found = organizations.find(ledger, "acme")
        assert (found.enabled, found.refresh_interval_hours, found.docs) == (False, 5, True)
        # Paused, there is no refresh to be had.
        refused = ask_page(client, PAGES["POST /organizations/{slug}/refresh"], None)
        assert refused.status_code == 409
        assert "not enabled" in refused.text


def test_an_organisations_page_shows_no_run_of_another_one(served: Served, ledger: Database) -> None:
    run_id = runs.request(ledger, Request(*HARBOR)).run_id
    with session(served, served.console.token()) as client:
        assert client.get(f"/organizations/blue-harbor?run={run_id}").status_code == 200
        for headers in ({}, {"HX-Request": "true", "HX-Target": "progress"}):
            assert client.get(f"/organizations/acme?run={run_id}", headers=headers).status_code == 404


def test_a_run_that_begins_meanwhile_is_named_where_it_is_not_watched_already(served: Served, ledger: Database) -> None:
    part = {"HX-Request": "true", "HX-Target": "figures"}
    with session(served, served.console.token(ACME[0])) as client:
        assert "watch the run" not in client.get("/organizations/acme", headers=part).text
        run_id = runs.request(ledger, Request(*ACME)).run_id
        answer = client.get("/organizations/acme", headers=part).text
        assert "watch the run" in answer
        assert f"?run={run_id}" in answer
        assert "<html" not in answer
        assert "watch the run" not in client.get(f"/organizations/acme?run={run_id}", headers=part).text
        page = client.get("/organizations/acme").text
        assert "The run waits for a worker." in page
        assert "watch the run" not in page


def test_a_notice_is_one_of_ours_and_nothing_that_an_address_says(served: Served) -> None:
    with session(served, served.console.token()) as client:
        page = client.get("/organizations/acme?notice=%3Cscript%3Ealert(1)%3C/script%3E").text
        assert "alert" not in page


def test_a_form_that_is_sent_twice_asks_for_one_refresh(served: Served, ledger: Database) -> None:
    form = {"nonce": "n" * 22, "full_refresh": "yes"}
    asked = AskedPage("POST", "/organizations/acme/refresh", form=form)
    with session(served, served.console.token()) as client:
        first = ask_page(client, asked, None).headers["location"]
        (run,) = runs.page(ledger, organization_id=ACME[0], page_size=5)
        assert (str(run.run_id) in first, run.full_refresh, run.docs) == (True, True, False)
        runs.cancel(ledger, run.run_id)
        assert ask_page(client, asked, None).headers["location"] == first
        assert len(runs.page(ledger, organization_id=ACME[0], page_size=5)) == 1


def test_lists_go_on_where_the_page_before_ended(served: Served, ledger: Database, sample_database: Any) -> None:
    sample_database.execute(
        "insert into public.organizations (id, slug, name, plan, created_at)"
        " select 1000 + n, 'many-' || n, 'Many ' || n, 'team', now() from generate_series(1, 60) as n"
    )
    for _ in range(60):
        runs.cancel(ledger, runs.request(ledger, Request(*ACME)).run_id)
    with session(served, served.console.token()) as client:
        for path, rows in (("/organizations", 64), ("/runs?organization=acme&status=cancelled", 60)):
            first = client.get(path).text
            more = first.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0].replace("&amp;", "&")
            second = client.get(more).text
            assert first.count('<th scope="row">') == 50
            assert second.count('<th scope="row">') == rows - 50
            assert 'rel="next"' not in second
            assert "To the first" in second
