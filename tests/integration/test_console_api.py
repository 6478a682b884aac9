"""The API: what it lists, shows and changes."""

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from kiket_worker.ledger import claims, freshness, organizations, overview, runs, tokens
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.runs import Request
from kiket_worker.telemetry.logs import set_up_logs, silence_logs
from kiket_worker.tenants.schema import schema_name
from tests.support.console import API, Console
from tests.support.dbt_scripts import FAILING
from tests.support.refreshes import Refreshes, claimed


@pytest.fixture
def ops(console: Console) -> Iterator[httpx.Client]:
    with console.serving() as served, served.client() as client:
        yield client


def test_organisations_come_by_slug_with_their_freshness(ops: httpx.Client) -> None:
    answer = ops.get(f"{API}/organizations")
    assert answer.status_code == 200, answer.text
    slugs = [one["slug"] for one in answer.json()["items"]]
    assert slugs == sorted(slugs)
    assert len(slugs) == 4
    assert answer.json()["next_cursor"] is None
    assert {one["state"] for one in answer.json()["items"]} == {"never"}


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_organisations_come_in_pages(ops: httpx.Client, limit: int) -> None:
    found: list[str] = []
    link = f"{API}/organizations?limit={limit}"
    while link and len(found) < 10:
        page = ops.get(link)
        assert len(page.json()["items"]) <= limit
        found += [one["slug"] for one in page.json()["items"]]
        link = page.links.get("next", {}).get("url", "")
    assert found == [one["slug"] for one in ops.get(f"{API}/organizations").json()["items"]]


def test_a_refresh_that_is_asked_for_is_a_run_that_waits(console: Console, ops: httpx.Client) -> None:
    answer = ops.post(f"{API}/organizations/acme/refresh", headers={"Idempotency-Key": "a"})
    assert answer.status_code == 202, answer.text
    run_id = answer.json()["run_id"]
    assert answer.headers["location"] == f"{API}/runs/{run_id}"
    assert console.woken == [1]
    shown = ops.get(answer.headers["location"])
    assert shown.json()["status"] == "queued"
    assert ops.post(f"{API}/runs/{run_id}/cancel").json()["status"] == "cancelled"
    again = ops.post(f"{API}/organizations/acme/refresh", headers={"Idempotency-Key": "a"})
    assert again.json()["run_id"] == run_id
    assert ops.post(f"{API}/runs/{run_id}/cancel").status_code == 409


def test_a_run_that_goes_on_is_to_end_when_its_worker_hears_of_it(console: Console, ops: httpx.Client) -> None:
    run_id = runs.request(console.ledger, Request(1, "acme")).run_id
    claimed(console.ledger, run_id)
    path = f"{API}/runs/{run_id}"
    assert ops.get(path).json()["cancel_requested_at"] is None
    answer = ops.post(f"{path}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    assert answer.json()["cancel_requested_at"] == ops.get(path).json()["cancel_requested_at"] is not None


def test_runs_come_in_pages_newest_first(ledger: Database, ops: httpx.Client) -> None:
    made = []
    for _ in range(5):
        made.append(str(runs.request(ledger, Request(1, "acme")).run_id))
        runs.cancel(ledger, runs.list_newest(ledger, limit=1)[0].run_id)
    found, cursor = [], None
    while True:
        page = ops.get(f"{API}/runs", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
        assert page.status_code == 200, page.text
        found += [run["run_id"] for run in page.json()["items"]]
        cursor = page.json()["next_cursor"]
        if cursor is None:
            assert "link" not in page.headers
            break
        assert page.headers["link"].endswith('>; rel="next"')
    assert found == made[::-1]


def test_requests_with_one_key_at_the_same_time_are_one_run(console: Console, sample_database: Any) -> None:
    with console.serving() as served, served.client() as client:

        def ask(number: int) -> dict[str, Any]:
            key = {"Idempotency-Key": f"key-{number % 2}"}
            answer = client.post(f"{API}/organizations/acme/refresh", headers=key, json={"docs": number % 2 == 1})
            assert answer.status_code == 202, answer.text
            return dict(answer.json())

        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(ask, range(32)))
    # Both keys name the run that waits: requests coalesce.
    assert len({run["run_id"] for run in together}) == 1
    assert len(sample_database.rows("select from kiket_analytics.runs")) == 1
    assert len(sample_database.rows("select from kiket_analytics.run_requests")) == 2


def test_a_key_is_answered_as_the_first_time_whatever_has_become_of_the_organisation(
    ledger: Database, ops: httpx.Client
) -> None:
    path, key = f"{API}/organizations/acme/refresh", {"Idempotency-Key": "k" * 255}
    first = ops.post(path, headers=key).json()["run_id"]
    runs.cancel(ledger, UUID(first))
    assert ops.patch(f"{API}/organizations/acme/settings", json={"enabled": False}).status_code == 200
    again = ops.post(path, headers=key)
    assert (again.status_code, again.json()["run_id"], again.json()["status"]) == (202, first, "cancelled")
    refused = ops.post(path, headers={"Idempotency-Key": "another"})
    assert (refused.status_code, refused.json()["kind"]) == (409, "organization_disabled")
    assert ops.post(path, headers={"Idempotency-Key": "k" * 256}).status_code == 422
    assert ops.post(path, headers={"Idempotency-Key": ""}).status_code == 422


def test_a_refresh_is_asked_for_with_all_that_is_wanted(ledger: Database, ops: httpx.Client) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    wanted = {"full_refresh": True, "docs": True, "select": ["fct_usage+"], "requested_by": "user:42"}
    answer = ops.post(f"{API}/organizations/acme/refresh", json=wanted, headers={"traceparent": trace})
    run = runs.get(ledger, UUID(answer.json()["run_id"]))
    assert (run.full_refresh, run.docs, run.selection, run.requested_by) == (True, True, ["fct_usage+"], "user:42")
    assert run.traceparent == trace
    assert run.reason == "manual"
    plain = ops.post(f"{API}/organizations/blue-harbor/refresh").json()
    assert str(plain["requested_by"]).startswith("token:")


@pytest.mark.parametrize(
    ("slug", "statement", "kind"),
    [
        (
            "acme",
            "update kiket_analytics.analytics_settings set quarantined_at = now(), quarantine_reason = 'crashes'",
            "organization_quarantined",
        ),
        ("Bad.Slug", "update public.organizations set slug = 'Bad.Slug' where id = 1", "organization_slug_invalid"),
    ],
)
def test_an_organisation_that_cannot_be_refreshed_is_a_conflict(
    sample_database: Any, ops: httpx.Client, slug: str, statement: str, kind: str
) -> None:
    sample_database.execute(statement)
    answer = ops.post(f"{API}/organizations/{slug}/refresh")
    assert (answer.status_code, answer.json()["kind"]) == (409, kind)
    shown = ops.get(f"{API}/organizations/{slug}").json()
    assert shown["state"] == ("quarantined" if slug == "acme" else "no_schema")


def test_settings_change_as_a_merge_patch_says(ops: httpx.Client) -> None:
    path = f"{API}/organizations/acme/settings"
    before = ops.get(path).json()
    assert (before["enabled"], before["refresh_interval_hours"], before["docs"]) == (True, None, False)
    changed = ops.patch(path, json={"refresh_interval_hours": 3}).json()
    assert changed == before | {"refresh_interval_hours": 3, "interval_hours": 3}
    assert ops.patch(path, json={"docs": True}).json() == changed | {"docs": True}
    assert ops.patch(path, json={}).json() == changed | {"docs": True}
    assert ops.patch(path, json={"refresh_interval_hours": None, "docs": False}).json() == before
    assert ops.patch(path, json={"enabled": False}).json() == before | {"enabled": False}
    assert ops.get(f"{API}/organizations/acme").json()["state"] == "paused"
    for wrong in ({"refresh_interval_hours": 0}, {"enabled": "no"}, {"interval": 3}, [], None, {"enabled": None}):
        assert ops.patch(path, json=wrong).status_code == 422


def test_freshness_follows_runs(sample_database: Any, refreshes: Refreshes, ops: httpx.Client) -> None:
    def acme() -> dict[str, Any]:
        return dict(ops.get(f"{API}/organizations/acme").json())

    assert (acme()["state"], acme()["last_success_at"], acme()["active_run_id"]) == ("never", None, None)
    assert acme()["lag_seconds"] > 0
    run_id = refreshes.request()
    assert acme()["active_run_id"] == str(run_id)
    refreshes.start(run_id, refreshes.services('build("a")')).wait()
    assert (acme()["state"], acme()["last_success_run_id"], acme()["active_run_id"]) == ("fresh", str(run_id), None)
    assert (acme()["lag_seconds"], acme()["outdated_seconds"]) == (0, 0)
    hours = acme()["interval_hours"]
    run = refreshes.run(run_id)
    last_run_at, last_success_at, due_at = (
        datetime.fromisoformat(acme()[name]) for name in ("last_run_at", "last_success_at", "due_at")
    )
    assert (last_run_at, last_success_at) == (run.started_at, run.finished_at)
    assert due_at == last_run_at + timedelta(hours=hours)
    sample_database.execute(
        "update kiket_analytics.analytics_settings set last_run_at = now() - make_interval(hours => %s)"
        " where organization_id = 1",
        hours + 1,
    )
    assert acme()["state"] == "late"
    assert acme()["lag_seconds"] == pytest.approx(3600, abs=60)


def test_an_organisation_whose_last_success_is_older_than_its_interval_is_failing_not_fresh(
    sample_database: Any, ledger: Database, refreshes: Refreshes, ops: httpx.Client
) -> None:
    refreshes.start(refreshes.request(), refreshes.services('build("a")')).wait()
    with sample_database.connect() as connection:
        connection.execute("set session_replication_role = replica")  # Else no run that has ended changes any more.
        connection.execute(
            "update kiket_analytics.runs set (queued_at, started_at, finished_at)"
            " = (queued_at - interval '2 days', started_at - interval '2 days', finished_at - interval '2 days')"
        )
    refreshes.start(refreshes.request(), refreshes.services(FAILING)).wait()
    shown = ops.get(f"{API}/organizations/acme").json()
    assert (shown["state"], shown["lag_seconds"]) == ("failing", 0)
    assert shown["outdated_seconds"] == pytest.approx((48 - shown["interval_hours"]) * 3600, abs=60)
    (outdated,) = [one for one in overview.look(ledger, {}, now=datetime.now(UTC)).outdated if one.slug == "acme"]
    assert outdated.state == shown["state"]
    assert outdated.outdated_seconds == pytest.approx((48 - shown["interval_hours"]) * 3600, abs=60)
    refreshes.start(refreshes.request(), refreshes.services('build("a")')).wait()
    assert ops.get(f"{API}/organizations/acme").json()["state"] == "fresh"


def test_whose_schema_it_would_be_is_told_to_operators_only(
    sample_database: Any, console: Console, ops: httpx.Client
) -> None:
    sample_database.execute(
        "insert into public.organizations (id, slug, name, plan, created_at)"
        " values (50, 'blue_harbor', 'B', 'team', now())"
    )
    sample_database.execute(
        "insert into kiket_analytics.leases (schema_name, organization_id) values ('analytics_org_blue_harbor', 2)"
    )
    path = f"{API}/organizations/blue_harbor"
    with console.serving() as served, served.client(50) as own:
        enabling = {client: client.patch(f"{path}/settings", json={"enabled": True}) for client in (own, ops)}
        sample_database.execute(
            "insert into kiket_analytics.analytics_settings (organization_id, enabled) values (50, true)"
        )
        refreshing = {client: client.post(f"{path}/refresh") for client in (own, ops)}
        # A message may ask as well; a worker skips the run, which its organisation can read.
        skipped = runs.request(console.ledger, Request(50, "blue_harbor")).run_id
        claims.claim(
            console.ledger,
            skipped,
            worker="here",
            ttl_seconds=60,
            schema_name=schema_name,
            end_sessions=lambda *_: 0,
        )
        shown = own.get(f"{API}/runs/{skipped}")
    for answers in (enabling, refreshing):
        assert {client: answer.status_code for client, answer in answers.items()} == {own: 409, ops: 409}
        assert answers[ops].json()["kind"] == "organization_schema_taken"
        assert answers[own].json()["kind"] == "organization_slug_invalid"
    assert (shown.json()["status"], shown.json()["error"]["kind"]) == ("skipped", "organization_slug_invalid")
    for answer in (enabling[own], refreshing[own], shown):
        assert "organisation 2" not in answer.text
        assert "another" not in answer.text


def test_nobody_asks_in_the_name_of_a_token(ops: httpx.Client) -> None:
    answer = ops.post(f"{API}/organizations/acme/refresh", json={"requested_by": "token:7"})
    assert answer.status_code == 422, answer.text
    assert "requested_by" in answer.text
    assert ops.get(f"{API}/runs").json()["items"] == []


def test_what_is_due_is_what_the_scheduler_and_the_command_line_say(sample_database: Any, ledger: Database) -> None:
    now = datetime.now(UTC)
    slugs = ["a", "A", "-a", "a-b", "a_b", "x" * 49, "y" * 50, "z-z", "z_z"]
    for number, slug in enumerate(slugs, 100):
        plan = (["starter", "team", "business", "enterprise"])[number % 4]
        sample_database.execute(
            "insert into public.organizations (id, slug, name, plan, created_at) values (%s, %s, 'N', %s, now())",
            *(number, slug, plan),
        )
        sample_database.execute(
            "insert into kiket_analytics.analytics_settings (organization_id, enabled, last_run_at)"
            " values (%s, %s, %s)",
            *(number, number % 3 != 0, now - timedelta(hours=number % 30) if number % 2 else None),
        )
    sample_database.execute(
        "insert into kiket_analytics.leases (schema_name, organization_id) values ('analytics_org_z_z', 107)"
    )
    listed = {one.slug: one for one in organizations.list_with_settings(ledger)}
    found = {one.organization.slug: one.organization for one in freshness.page(ledger, page_size=100)}
    assert found.keys() == listed.keys()
    for slug, one in found.items():
        other = listed[slug]
        assert replace(one, due_at=None) == replace(other, due_at=None)
        assert (one.due_at is None) == (other.due_at is None)
        if one.due_at and other.due_at:  # One that was never refreshed is due now, and two questions are two moments.
            assert abs(one.due_at - other.due_at) < timedelta(
                minutes=1 if one.last_run_at is None else 0, microseconds=1
            )


def test_lists_stay_where_they_are_while_runs_are_added(ledger: Database, ops: httpx.Client) -> None:
    def add() -> str:
        run_id = runs.request(ledger, Request(1, "acme")).run_id
        runs.cancel(ledger, run_id)
        return str(run_id)

    made = [add() for _ in range(6)][::-1]
    first = ops.get(f"{API}/runs?limit=3").json()
    add()
    second = ops.get(f"{API}/runs", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert [run["run_id"] for run in first["items"] + second["items"]] == made
    assert second["next_cursor"] is None


def test_runs_that_were_queued_at_one_moment_are_all_listed_once(
    sample_database: Any, ledger: Database, ops: httpx.Client
) -> None:
    for _ in range(9):
        runs.cancel(ledger, runs.request(ledger, Request(1, "acme")).run_id)
    with sample_database.connect() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update kiket_analytics.runs set queued_at = '2026-06-01'")
    found, link = [], f"{API}/runs?limit=2&since=2026-06-01T00:00:00Z&status=cancelled"
    while link:
        page = ops.get(link)
        found += [run["run_id"] for run in page.json()["items"]]
        link = page.links.get("next", {}).get("url", "")
    assert len(found) == len(set(found)) == 9


def test_runs_are_filtered(ledger: Database, ops: httpx.Client) -> None:
    cancelled = str(runs.request(ledger, Request(1, "acme")).run_id)
    runs.cancel(ledger, UUID(cancelled))
    waiting = str(runs.request(ledger, Request(2, "blue-harbor")).run_id)

    def listed(query: str) -> set[str]:
        return {run["run_id"] for run in ops.get(f"{API}/runs?{query}").json()["items"]}

    assert listed("") == {cancelled, waiting}
    assert listed("status=cancelled") == listed("organization=acme") == {cancelled}
    assert listed("status=queued") == listed("organization=blue-harbor&status=queued") == {waiting}
    assert listed("organization=acme&status=queued") == set()
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert listed(f"since={tomorrow}") == set()
    assert listed("since=2026-01-01T00:00:00%2B02:00") == {cancelled, waiting}


def test_who_changed_settings_or_cancelled_a_run_is_in_the_log(ops: httpx.Client, console: Console) -> None:
    log = io.StringIO()
    set_up_logs(log)
    try:
        ops.patch(f"{API}/organizations/acme/settings", json={"enabled": True, "refresh_interval_hours": 3})
        ops.patch(f"{API}/organizations/acme/settings", json={"refresh_interval_hours": None})
        ops.patch(f"{API}/organizations/acme/settings", json={})
        run_id = ops.post(f"{API}/organizations/acme/refresh").json()["run_id"]
        ops.post(f"{API}/runs/{run_id}/cancel")
    finally:
        silence_logs()
    told = [json.loads(line) for line in log.getvalue().splitlines()]
    (asker,) = {event["requested_by"] for event in told if "requested_by" in event}
    (token,) = tokens.newest(console.ledger)
    assert asker == f"token:{token.token_id}"
    assert [event["changes"] for event in told if event["event"] == "console.settings_changed"] == [
        ["enabled=true", "refresh_interval_hours=3"],
        ["refresh_interval_hours=plan"],
    ]
    (cancelled,) = [event for event in told if event["event"] == "console.cancel_requested"]
    assert (cancelled["organization"], cancelled["run_id"]) == ("acme", run_id)
