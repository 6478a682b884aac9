"""The API: what it lists, shows and changes."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kiket_worker.ledger import runs
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.runs import Request
from tests.support.console import API, Console


@pytest.fixture
def console(ledger: Database, tmp_path: Path) -> Console:
    return Console(ledger, tmp_path)


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
