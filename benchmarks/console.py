"""What the console's answers cost in an installation with a million runs, against one with a thousand."""

import http.client
import io
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from psycopg.rows import dict_row

from benchmarks.figures import Benchmark, Figure, Target, machine
from benchmarks.ledgers import LARGEST, filled
from benchmarks.services import BenchmarkFailed, postgres_in, postgres_version, temporary_folder
from benchmarks.turns import in_turns
from kiket_worker.artifacts.directory import DirectoryStore
from kiket_worker.console.access import SESSION_COOKIE
from kiket_worker.console.api import PREFIX
from kiket_worker.console.app import create_app
from kiket_worker.console.server import listen, server_of
from kiket_worker.console.services import Services
from kiket_worker.dev import postgres
from kiket_worker.ledger import attempts, claims, freshness, history, overview, runs, tokens, usage
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.runs import Position
from kiket_worker.ledger.usage import Period
from kiket_worker.telemetry.logs import set_up_logs
from kiket_worker.tenants.schema import schema_name

# An installation in which nothing is done for the console.
_WITHOUT = Path(__file__).parent / "sql" / "without_console.sql"
_MODELS = 12
_PRICES = {"analytics_dbt_run": Decimal("0.25")}


@dataclass(frozen=True)
class _Size:
    organizations: int
    runs: int

    def __str__(self) -> str:
        return f"{self.runs:,} runs of {self.organizations:,} organisations"


_SMALL = _Size(100, 1_000)
_LARGE = _Size(100_000, 1_000_000)
_SHORT = _Size(200, 2_000)


@dataclass(frozen=True)
class _Turns:
    """How often each side has its turn: before it is measured, until all is read, connected and prepared, and then."""

    before: int
    measured: int


@dataclass(frozen=True)
class _Installation:
    """A ledger with a history, a console over it, and what there is to ask for: a run, and the middle of each list."""

    database: Database
    connection: http.client.HTTPConnection
    token: str
    run: dict[str, Any]
    slug: str

    def get(self, path: str, _turn: int) -> None:
        """Ask the console, as a page's reader and as a program at once."""
        filled_in = path.format(run=self.run["run_id"], slug=self.slug, since=_day(10), month=_day(30), largest=LARGEST)
        headers = {"Authorization": f"Bearer {self.token}", "Cookie": f"{SESSION_COOKIE}={self.token}"}
        self.connection.request("GET", filled_in, headers=headers)
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise BenchmarkFailed(f"{filled_in}: {answer.status} {body[:200]!r}")


# By figure: what is asked for.
REQUESTS = {
    "organizations": (f"{PREFIX}/organizations", "organisations with their freshness, the first page"),
    "runs": (f"{PREFIX}/runs", "the newest runs"),
    "runs_since": (f"{PREFIX}/runs?since={{since}}&limit=200", "runs of the last ten days, 200 of them"),
    "runs_failed": (f"{PREFIX}/runs?status=failed", "the newest failed runs"),
    "runs_running": (f"{PREFIX}/runs?status=running", "the runs that go on"),
    "runs_of_organization": (f"{PREFIX}/runs?organization={{slug}}", "an organisation's newest runs"),
    "runs_failed_of_organization": (f"{PREFIX}/runs?organization={{slug}}&status=failed", "its failed runs"),
    "runs_of_largest": (f"{PREFIX}/runs?organization={{largest}}", "the newest of who has a tenth of all runs"),
    "runs_failed_of_largest": (f"{PREFIX}/runs?organization={{largest}}&status=failed", "its failed runs"),
    "usage_of_largest": (f"{PREFIX}/usage?organization={{largest}}", "its usage of thirty days, by day"),
    "run": (f"{PREFIX}/runs/{{run}}", "a run with models and attempts"),
    "organization": (f"{PREFIX}/organizations/{{slug}}", "one organisation"),
    "settings": (f"{PREFIX}/organizations/{{slug}}/settings", "its settings"),
    "usage_of_organization": (f"{PREFIX}/usage?organization={{slug}}", "its usage of thirty days, by day"),
    "usage": (f"{PREFIX}/usage?start_at={{month}}&group_by=week", "usage of all, by week"),
    "overview_page": ("/", "the overview as a page, by the last look"),
    "organizations_page": ("/organizations", "organisations as a page"),
    "organization_page": ("/organizations/{slug}", "an organisation's page, with its history, models and usage"),
    "organization_page_of_largest": ("/organizations/{largest}", "the same of who has a tenth of all runs"),
    "run_page": ("/runs/{run}", "a run's page, of one that has left nothing here"),
    "runs_page": ("/runs", "runs as a page"),
    "runs_page_filtered": ("/runs?organization={slug}&status=failed", "an organisation's failed runs as a page"),
}
# By figure: what pages ask the ledger for, beside the same lists.
QUERIES: dict[str, tuple[Callable[[_Installation], object], str]] = {
    "runs_page_in_the_middle": (
        lambda one: runs.page(one.database, after=Position(one.run["queued_at"], one.run["run_id"]), page_size=51),
        "a page in the middle of all runs",
    ),
    "organizations_page_in_the_middle": (
        lambda one: freshness.page(one.database, after=one.slug, page_size=51),
        "a page in the middle of all organisations",
    ),
    "slowest_models": (
        lambda one: history.slowest_models(one.database, one.run["organization_id"]),
        "an organisation's slowest models",
    ),
    "in_progress": (lambda one: runs.in_progress(one.database, 20), "the runs that go on"),
    "failures": (
        lambda one: runs.failed_since(one.database, datetime.now(UTC) - timedelta(days=1), 20),
        "the last day's failures",
    ),
    "costliest": (
        lambda one: usage.costliest(one.database, _PRICES, month=datetime.now(UTC).date().replace(day=1), limit=10),
        "the organisations that cost most this month",
    ),
    "history": (
        lambda one: runs.page(one.database, organization_id=one.run["organization_id"], page_size=100),
        "an organisation's last hundred runs",
    ),
    "series": (
        lambda one: usage.series(
            one.database,
            one.run["organization_id"],
            first_day=datetime.now(UTC).date() - timedelta(days=365),
            last_day=datetime.now(UTC).date() + timedelta(days=1),
            period=Period.MONTH,
        ),
        "an organisation's usage of a year, by month",
    ),
}


def measure(short: bool) -> Benchmark:  # noqa: FBT001  # as every benchmark
    """The time of each list and of each query, as a ratio of a large installation's to a small one's."""
    # As the console writes them, but to nowhere: the runs have no artifacts, which their pages tell each time.
    set_up_logs(io.StringIO())
    size, turns = (_SHORT, _Turns(1, 1)) if short else (_LARGE, _Turns(7, 41))
    figures = []
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        admin_url = stack.enter_context(postgres_in(folder / "postgres"))
        large = stack.enter_context(_installation(admin_url, folder, "large", size))
        small = stack.enter_context(_installation(admin_url, folder, "small", _SMALL))
        against = f"{size} against {_SMALL}"
        for name, (path, what) in REQUESTS.items():
            how = f"{what}, over HTTP; {against}"
            figures.append(_compared(name, how, turns, partial(large.get, path), partial(small.get, path)))
        for name, (query, what) in QUERIES.items():
            how = f"{what}, from the ledger; {against}"
            figures.append(_compared(name, how, turns, _turn_of(query, large), _turn_of(query, small)))
        figures += [_writes(stack, admin_url, turns), _look(large, max(5, turns.measured // 8), str(size))]
        return Benchmark("console", machine(postgres=postgres_version(admin_url), rabbitmq="not used"), figures)


def _look(large: _Installation, turns: int, size: str) -> Figure:
    seconds = []
    for _ in range(turns):
        began = time.perf_counter()
        overview.look(large.database, _PRICES, now=datetime.now(UTC))
        seconds.append(time.perf_counter() - began)
    how = f"the overview's look at {size}: in the background, a twentieth of the time at most"
    return Figure("overview_look_seconds", median(seconds), "s", f"{how}; median of {turns}")


def _writes(stack: ExitStack, admin_url: str, turns: _Turns) -> Figure:
    """What the console's indexes and sums cost a run that goes through the ledger."""
    with_sums = filled(admin_url, "with_sums", organizations=_SMALL.organizations, runs=_SMALL.runs)
    without_sums = postgres.create_database(admin_url, "without_sums", template="with_sums")
    with psycopg.connect(without_sums) as connection:
        connection.execute(_WITHOUT.read_bytes())
    sides = [partial(_run_through, stack.enter_context(Database(url))) for url in (with_sums, without_sums)]
    for turn in range(turns.before):
        for side in sides:
            side(turn)
    how = f"a run of {_MODELS} models from request to usage in the ledger, dbt left out, against the same without"
    how += " the indexes and triggers that the console needs"
    return in_turns(turns.measured, *sides).figure("refresh_writes_ratio", how)


def _run_through(database: Database, turn: int) -> None:
    number = 51 + turn % 40  # None that is paused, or has a run already.
    slug = f"org-{number:06}"
    run_id = runs.request(database, runs.Request(number, slug)).run_id
    claim = claims.claim(
        database, run_id, worker="bench", ttl_seconds=60, schema_name=schema_name, end_sessions=lambda *_: 0
    )
    assert isinstance(claim, claims.Claim)
    attempts.begin_models(database, claim)
    models = [runs.RunModel(f"model.bench.m{model}", "success", 0.1, 1) for model in range(_MODELS)]
    attempts.record_models(database, claim, models)
    attempts.mark_built(database, claim)
    attempts.mark_archived(database, claim, location="file:///bench", index_sha256="0" * 64)
    attempts.succeed(database, claim)


def _compared(
    name: str, how: str, turns: _Turns, large: Callable[[int], object], small: Callable[[int], object]
) -> Figure:
    for _ in range(turns.before):
        large(0)
        small(0)
    return in_turns(turns.measured, large, small).figure(f"{name}_ratio", how, Target("<=", 2.0))


def _turn_of(query: Callable[[_Installation], object], one: _Installation) -> Callable[[int], object]:
    return lambda _: query(one)


@contextmanager
def _installation(admin_url: str, folder: Path, name: str, size: _Size) -> Iterator[_Installation]:
    url = filled(admin_url, name, organizations=size.organizations, runs=size.runs, models=1)
    with psycopg.connect(url, row_factory=dict_row) as connection:
        run = connection.execute(
            "select run_id, organization_id, organization_slug, queued_at from kiket_analytics.runs"
            " where organization_id <> 1 and status = 'succeeded' order by queued_at offset %s limit 1",
            [size.runs // 3],
        ).fetchone()
        assert run is not None
    with Database(url, max_connections=4) as database:
        _, token = tokens.create(
            database, organization_id=None, name=None, expires_days=1, random_text=secrets.token_urlsafe
        )
        services = Services(
            database=database,
            store=DirectoryStore(folder / "artifacts"),
            wake=lambda _: None,
            depths=dict,
            prices=_PRICES,
            streams=1,
        )
        listener = listen("127.0.0.1:0")
        server = server_of(create_app(services), proxies=None)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        connection_to = http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=60)
        try:
            yield _Installation(database, connection_to, token, run, run["organization_slug"])
        finally:
            connection_to.close()
            server.should_exit = True
            thread.join(10)
            listener.close()


def _day(days_ago: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days_ago)).strftime("%Y-%m-%dT00:00:00Z")
