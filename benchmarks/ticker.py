"""What a tick costs among a million organisations, against the same tick among ten thousand.

Both are databases of one Postgres in which every organisation has been refreshed once: settings, a lease and a run that
has ended. A thousand of each are due at each turn, spread over all of them.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

from benchmarks.figures import Benchmark, Figure, Target
from benchmarks.progress import say
from benchmarks.services import BenchmarkFailed, Installation, Services, running
from benchmarks.turns import Turns, in_turns
from kiket_worker.dev.service import last_lines
from kiket_worker.events import TICKER_TICKED
from kiket_worker.ledger import backlog, outbox
from kiket_worker.ledger.database import Database

# What one refresh of each has left, written past the triggers that let nobody but a refresh write it, set-based: this
# is as fast as COPY, and needs no rows on this side.
_REFRESHED_ONCE = (
    "set session_replication_role = replica",
    "insert into kiket_analytics.analytics_settings (organization_id, enabled, last_run_at)"
    " select id, true, now() from public.organizations",
    "insert into kiket_analytics.leases (schema_name, organization_id)"
    " select 'analytics_org_' || replace(slug, '-', '_'), id from public.organizations",
    "insert into kiket_analytics.runs (organization_id, organization_slug, reason, urgency, status, attempt,"
    " lease_epoch, worker, queued_at, published_at, started_at, finished_at, error_kind, error_message)"
    " select id, slug, 'scheduled', 0, 'failed', 1, 1, 'benchmark', now(), now(), now(), now(), 'internal', 'none'"
    " from public.organizations",
    "reset session_replication_role",
    "vacuum (analyze)",
)


@dataclass(frozen=True)
class Sizes:
    """How many organisations there are on either side, how many are due, and how often it is measured."""

    few: int = 10_000
    many: int = 1_000_000
    due: int = 1000
    turns: int = 7
    processes: int = 5


FULL = Sizes()
SHORT = Sizes(few=50, many=500, due=20, turns=1, processes=1)


def measure(short: bool) -> Benchmark:  # noqa: FBT001  # every benchmark is called so
    """Measure everything: about two minutes on two cores, most of it loading; in short form ten seconds."""
    sizes = SHORT if short else FULL
    with running() as services, ExitStack() as stack:
        few = stack.enter_context(_side(services, "few", sizes.few))
        many = stack.enter_context(_side(services, "many", sizes.many))
        say("ticks in this process")
        for side in (few, many):
            side.settle()
        queued = _turns(sizes.turns, sizes, few, many, Side.queue)
        looked = _turns(sizes.turns, sizes, few, many, Side.look)
        say("ticks as processes")
        ticked: dict[str, list[Ticked]] = {few.name: [], many.name: []}
        in_turns(
            sizes.processes,
            lambda _: ticked[many.name].append(many.tick(sizes)),
            lambda _: ticked[few.name].append(few.tick(sizes)),
        )
        of_many, of_few = ticked[many.name], ticked[few.name]
        among = (
            f"{sizes.due} due among {sizes.many} organisations against {sizes.due} among {sizes.few}, every one of"
            " which has settings, a lease and a run that has ended"
        )
        return Benchmark(
            "ticker",
            services.machine,
            [
                queued.figure("ticker_queue_ratio", f"queueing {among}", Target("<=", 1.5)),
                Turns([one.seconds for one in of_many], [one.seconds for one in of_few]).figure(
                    "ticker_tick_ratio",
                    "duration_seconds of ticker.ticked of `kiket-worker ticker --once`, publishing to RabbitMQ"
                    f" included, {among}",
                    Target("<=", 1.5),
                ),
                Figure(
                    "ticker_memory_ratio",
                    median(one.megabytes for one in of_many) / median(one.megabytes for one in of_few),
                    "ratio",
                    f"the most memory that those processes had (ru_maxrss), {median(o.megabytes for o in of_many):.1f}"
                    f" MB against {median(o.megabytes for o in of_few):.1f} MB, medians of {len(of_many)} in turns",
                    Target("<=", 1.05),
                ),
                looked.figure("backlog_ratio", f"the look at the backlog for the metrics, {among}", Target("<=", 1.5)),
            ],
        )


@dataclass(frozen=True)
class Ticked:
    """What a ticker's process has taken."""

    seconds: float
    megabytes: float


@dataclass(frozen=True)
class Side:
    """An installation with many organisations or few."""

    name: str
    organizations: int
    installation: Installation
    ledger: Database

    def settle(self) -> None:
        """Let the first tick after an upgrade compare the plans of all, and Postgres count what that has changed."""
        outbox.queue_due(self.ledger, datetime.now(UTC))
        self.installation.rows("vacuum analyze kiket_analytics.analytics_settings")

    def make_due(self, sizes: Sizes) -> None:
        """Let nothing wait, and as many as are wanted be due, each by another time."""
        numbers = [number * (self.organizations // sizes.due) for number in range(1, sizes.due + 1)]
        self.installation.rows("delete from kiket_analytics.runs where status = 'queued'")
        self.installation.rows(
            "update kiket_analytics.analytics_settings set last_run_at = now() - interval '7 hours' - organization_id"
            " * interval '1 millisecond' where organization_id = any(%s)",
            numbers,
        )

    def queue(self, sizes: Sizes) -> None:
        """Queue what is due."""
        if (found := len(outbox.queue_due(self.ledger, datetime.now(UTC)))) != sizes.due:
            raise BenchmarkFailed(f"{found} were queued among {self.name}, not {sizes.due}")

    def look(self, sizes: Sizes) -> None:
        """Ask how far the ledger is behind."""
        if (found := backlog.measure(self.ledger, timeout_seconds=60).due) != sizes.due:
            raise BenchmarkFailed(f"{found} are due among {self.name}, not {sizes.due}")

    def tick(self, sizes: Sizes) -> Ticked:
        """Tick once in a process of its own."""
        self.make_due(sizes)
        ticker = self.installation.start("ticker", "--once")
        _, status, usage = os.wait4(ticker.child.pid, 0)
        ticker.child.returncode = os.waitstatus_to_exitcode(status)
        if ticker.child.returncode != 0:
            raise BenchmarkFailed(f"the ticker failed:\n{last_lines(ticker.log)}")
        lines = [json.loads(line) for line in ticker.log.read_text().splitlines()]
        (ticked,) = (line for line in lines if line["event"] == TICKER_TICKED.name)
        if ticked["published"] != sizes.due:
            raise BenchmarkFailed(f"{ticked['published']} were published among {self.name}, not {sizes.due}")
        return Ticked(ticked["duration_seconds"], usage.ru_maxrss / 1024)


def _turns(count: int, sizes: Sizes, few: Side, many: Side, work: Callable[[Side, Sizes], None]) -> Turns:
    """The same on both sides, in turns; a first turn is not counted."""
    seconds: dict[str, list[float]] = {few.name: [], many.name: []}
    for turn in range(-1, count):
        for side in (many, few) if turn % 2 else (few, many):
            side.make_due(sizes)
            began = time.perf_counter()
            work(side, sizes)
            if turn >= 0:
                seconds[side.name].append(time.perf_counter() - began)
    return Turns(seconds[many.name], seconds[few.name])


@contextmanager
def _side(services: Services, name: str, organizations: int) -> Iterator[Side]:
    say(f"loading {organizations} organisations")
    with services.installation(name, organization_count=organizations) as installation:
        for one in _REFRESHED_ONCE:
            installation.rows(one)
        with Database(installation.variables["DATABASE_URL"]) as ledger:
            yield Side(name, organizations, installation, ledger)
