"""However large the ledger, lists and pages read what they show: by index, and a bounded number of blocks.

What a plan reads is counted and nothing is timed; `python -m benchmarks console` does that.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from benchmarks.console import REQUESTS
from benchmarks.ledgers import LARGEST, fill
from kiket_worker.console.access import SESSION_COOKIE
from kiket_worker.ledger import definitions, freshness, history, overview, runs, usage
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.runs import Position, Status
from kiket_worker.ledger.usage import Period
from tests.support.console import Console

ORGANIZATIONS, RUNS = 20_000, 100_000
# What grows with organisations or runs, and may therefore not be read from one end to the other.
LARGE = {
    *("organizations", "analytics_settings", "leases", "runs", "run_models", "attempts", "usage_events"),
    *("usage_daily", "usage_monthly"),
}
# Of 8 KB. The whole table of runs has 5,000 here.
MOST_BLOCKS = 800


class Recorder(Database):
    """A ledger that writes down what it was asked."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.asked: list[tuple[bytes, dict[str, Any]]] = []

    def rows(
        self, query: bytes, parameters: dict[str, Any] | None = None, *, prepare: bool | None = None
    ) -> list[dict[str, Any]]:
        self.asked.append((query, parameters or {}))
        return super().rows(query, parameters, prepare=prepare)


@dataclass
class Plan:
    """What one statement has read: relations from end to end, and blocks."""

    query: str
    scanned: set[str] = field(default_factory=set)
    blocks: int = 0

    def read(self, node: dict[str, Any]) -> None:
        if node["Node Type"] == "Seq Scan":
            self.scanned.add(node["Relation Name"])
        for below in node.get("Plans", []):
            self.read(below)


@dataclass(frozen=True)
class Ledger:
    database: Recorder
    url: str
    run: dict[str, Any]

    def plans(self, ask: Callable[[], object]) -> list[Plan]:
        self.database.asked.clear()
        ask()
        assert self.database.asked
        return [self._plan(query, parameters) for query, parameters in self.database.asked]

    def _plan(self, query: bytes, parameters: dict[str, Any]) -> Plan:
        explain = b"explain (analyze, buffers, format json, timing off) " + query
        (row,) = self.database.__class__.__mro__[1].rows(self.database, explain, parameters, prepare=False)
        (document,) = row["QUERY PLAN"]
        plan = Plan(query.decode().partition("\n")[0])
        plan.read(document["Plan"])
        plan.blocks = document["Plan"]["Shared Hit Blocks"] + document["Plan"]["Shared Read Blocks"]
        return plan


@pytest.fixture(scope="module")
def large(module_database: Any) -> Iterator[Ledger]:
    fill(module_database.url, organizations=ORGANIZATIONS, runs=RUNS)
    run = module_database.rows(
        "select * from kiket_analytics.runs where organization_id <> 1 and status = 'succeeded'"
        " order by queued_at offset 30000 limit 1"
    )[0]
    with Recorder(module_database.url) as database:
        yield Ledger(database, module_database.url, run)


def assert_bounded(plans: list[Plan]) -> None:
    for plan in plans:
        assert plan.scanned & LARGE == set(), plan
        assert plan.blocks < MOST_BLOCKS, plan


@pytest.mark.parametrize("name", REQUESTS)
def test_what_the_api_and_pages_show_is_read_by_index(large: Ledger, tmp_path: Path, name: str) -> None:
    path, _ = REQUESTS[name]
    since = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    asked = path.format(
        run=large.run["run_id"], slug=large.run["organization_slug"], since=since, month=since, largest=LARGEST
    )
    with Console(large.database, tmp_path).serving() as served, served.client() as client:
        client.cookies.set(SESSION_COOKIE, served.console.token())

        def ask() -> None:
            answer = client.get(asked)
            assert answer.status_code == 200, answer.text

        ask()  # The look at all organisations is for everybody, and in the background from then on.
        assert_bounded(large.plans(ask))


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("organization_id", [None, 1, 4242])
@pytest.mark.parametrize("since_hours", [None, 1, 10_000])
def test_every_combination_of_filters_is_read_by_index(
    large: Ledger, status: Status, organization_id: int | None, since_hours: int | None
) -> None:
    since = since_hours and datetime.now(UTC) - timedelta(hours=since_hours)
    for after in (None, Position(large.run["queued_at"], large.run["run_id"])):
        assert_bounded(
            large.plans(
                lambda after=after: runs.page(
                    large.database,
                    organization_id=organization_id,
                    status=status,
                    since=since or None,
                    after=after,
                    page_size=51,
                )
            )
        )


QUERIES: dict[str, Callable[[Database, dict[str, Any]], object]] = {
    "organisations in the middle": lambda ledger, run: freshness.page(ledger, after="org-010000", page_size=51),
    "slowest models": lambda ledger, run: history.slowest_models(ledger, 1),
    "throughput": lambda ledger, run: overview.throughput(ledger, hours=72),
    "in progress": lambda ledger, run: runs.in_progress(ledger, 20),
    "failures": lambda ledger, run: runs.failed_since(ledger, datetime.now(UTC) - timedelta(days=1), 20),
    "costliest": lambda ledger, run: usage.costliest(
        ledger, {"analytics_dbt_run": Decimal(1)}, month=datetime.now(UTC).date().replace(day=1), limit=10
    ),
    "versions": lambda ledger, run: definitions.newest(ledger, 1, 10),
    "watched": lambda ledger, run: runs.watched(ledger, [run["run_id"]]),
    "series": lambda ledger, run: usage.series(
        ledger,
        1,
        first_day=datetime.now(UTC).date() - timedelta(days=365),
        last_day=datetime.now(UTC).date(),
        period=Period.WEEK,
    ),
}


@pytest.mark.parametrize("name", QUERIES)
def test_what_pages_show_is_read_by_index(large: Ledger, name: str) -> None:
    assert_bounded(large.plans(lambda: QUERIES[name](large.database, large.run)))


def test_the_check_would_notice(large: Ledger) -> None:
    (plan,) = large.plans(lambda: large.database.rows(b"select count(*) from kiket_analytics.runs where attempt = 1"))
    assert plan.scanned == {"runs"}
    with pytest.raises(AssertionError):
        assert_bounded([plan])
