"""How fast messages become runs, how long a request waits, what a second worker brings, how soon a crash is made good.

dbt is a stub that takes a given time, so what is measured is the product, Postgres and RabbitMQ. All times are those of
the ledger (Postgres' clock), except the moment of a kill, which is this process's clock on the same machine.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from statistics import median

from benchmarks.figures import Benchmark, Figure, Target, percentile
from benchmarks.services import BenchmarkFailed, Installation, Services, running
from kiket_worker.ledger.runs import RunId

_LEASE_SECONDS = 3.0
_ANY_TIME_SECONDS = 600.0


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    `settle_seconds` is what a worker needs after its first event until all its threads have asked RabbitMQ once.
    """

    claimed_runs: int = 200
    requests: int = 50
    backlog: int = 10_000
    speedup_runs: int = 120
    speedup_pairs: int = 3
    speedup_dbt_seconds: float = 1
    kills: int = 5
    settle_seconds: float = 1


FULL = Sizes()
SHORT = Sizes(
    claimed_runs=8,
    requests=2,
    backlog=80,
    speedup_runs=4,
    speedup_pairs=1,
    speedup_dbt_seconds=0.2,
    kills=1,
    settle_seconds=0,
)


@dataclass(frozen=True)
class _Starts:
    """How long requests waited for their start in one situation, in seconds."""

    seconds: Sequence[float]

    def figures(self, situation: str, how: str, p99_target: Target | None = None) -> list[Figure]:
        how = f"started_at - queued_at of {len(self.seconds)} requests (ledger row, then message); nearest rank; {how}"
        return [
            Figure(f"manual_start_seconds_p50_{situation}", self.p50, "s", how),
            Figure(f"manual_start_seconds_p99_{situation}", percentile(self.seconds, 99), "s", how, p99_target),
        ]

    @property
    def p50(self) -> float:
        return percentile(self.seconds, 50)


def measure(short: bool) -> Benchmark:  # noqa: FBT001  # every benchmark is called so
    """Measure everything: about four minutes on two cores, in short form half a minute."""
    sizes = SHORT if short else FULL
    with running() as services:
        _say("publish to claimed")
        figures = [_publish_to_claimed(services, sizes)]
        _say("requests, workers idle")
        idle = _start_idle(services, sizes)
        figures += idle.figures("idle", "one after another, two idle workers of concurrency 2, dbt stub 0 s")
        _say("requests behind a backlog")
        figures += _start_behind_backlog(services, sizes, idle)
        _say("two workers against one")
        figures.append(_speedup(services, sizes))
        _say("recovery after SIGKILL")
        figures.append(_recovery(services, sizes))
        _say("done")
        return Benchmark("queue", services.machine, figures)


def _publish_to_claimed(services: Services, sizes: Sizes) -> Figure:
    runs = sizes.claimed_runs
    with services.installation("claimed", organization_count=runs) as installation:
        installation.set_dbt_seconds(0)
        installation.opt_in(1, runs, due=True)
        installation.start_workers(1, concurrency=4)
        time.sleep(sizes.settle_seconds)
        installation.tick_once()
        wait_for_success(installation, runs)
        seconds = installation.value(
            "select extract(epoch from max(started_at) - min(published_at))::float from kiket_analytics.runs"
        )
    return Figure(
        "publish_to_claimed_per_second",
        runs / seconds,
        "1/s",
        f"{runs} due organisations / (last started_at - first published_at); one idle worker of concurrency 4, which"
        " also carries each run to its end (artifacts in a folder); dbt stub 0 s; `ticker --once` publishes",
    )


def _start_idle(services: Services, sizes: Sizes) -> _Starts:
    with services.installation("idle", organization_count=sizes.requests) as installation:
        installation.set_dbt_seconds(0)
        installation.opt_in(1, sizes.requests, due=False)
        installation.start_workers(2, concurrency=2)
        time.sleep(sizes.settle_seconds)
        with installation.requests() as request:
            run_ids = []
            for number in range(1, sizes.requests + 1):
                run_ids.append(request(number))
                wait_for_success(installation, number)
        return _starts(installation, run_ids)


def _start_behind_backlog(services: Services, sizes: Sizes, idle: _Starts) -> list[Figure]:
    first_request = sizes.backlog + 1
    with services.installation("backlog", organization_count=sizes.backlog + sizes.requests) as installation:
        installation.set_dbt_seconds(0.3)
        installation.opt_in(1, sizes.backlog, due=True)
        installation.opt_in(first_request, sizes.requests, due=False)
        installation.tick_once()
        installation.start_workers(2, concurrency=2)
        _say(f"{sizes.backlog} messages published")
        installation.wait(lambda: _scheduled(installation, "succeeded") >= 8, "workers that are busy")
        began_at = installation.value("select clock_timestamp()")
        waiting_first = _scheduled(installation, "queued")
        with installation.requests() as request:
            run_ids = []
            for number, pause_seconds in zip(range(sizes.requests), _pauses(), strict=False):
                time.sleep(pause_seconds)
                run_ids.append(request(first_request + number))
        waiting_last = _scheduled(installation, "queued")
        if waiting_last == 0:
            raise BenchmarkFailed(f"the backlog of {sizes.backlog} was done before the requests were")
        done = "select count(*) = %s from kiket_analytics.runs where run_id = any(%s) and finished_at is not null"
        installation.wait(lambda: installation.value(done, len(run_ids), run_ids), "the requested runs' ends")
        starts = _starts(installation, run_ids)
        run_seconds = installation.value(
            "select percentile_cont(0.5) within group (order by extract(epoch from finished_at - started_at))"
            " from kiket_analytics.runs where reason = 'scheduled' and status = 'succeeded' and started_at >= %s",
            began_at,
        )
    how = (
        f"two workers of concurrency 2 busy with {waiting_first} to {waiting_last} waiting scheduled messages; dbt stub"
        f" 0.3 s; requests 0.3 to 0.9 s apart; target of p99: 2 x p50_idle ({idle.p50:.3f} s) + the median run of the"
        f" backlog meanwhile ({run_seconds:.3f} s)"
    )
    return starts.figures("backlog", how, Target("<=", 2 * idle.p50 + run_seconds))


def _speedup(services: Services, sizes: Sizes) -> Figure:
    walls: dict[int, list[float]] = {1: [], 2: []}
    with services.installation("speedup", organization_count=sizes.speedup_runs) as installation:
        installation.set_dbt_seconds(sizes.speedup_dbt_seconds)
        installation.start_workers(1, concurrency=8)
        for _ in range(sizes.speedup_pairs):
            time.sleep(sizes.settle_seconds)
            walls[1].append(_wall_seconds(installation, sizes.speedup_runs))
            (second,) = installation.start_workers(1, concurrency=8)
            time.sleep(sizes.settle_seconds)
            walls[2].append(_wall_seconds(installation, sizes.speedup_runs))
            second.kill()
            _say(f"one {walls[1][-1]:.1f} s, two {walls[2][-1]:.1f} s")
    ratios = [one / two for one, two in zip(walls[1], walls[2], strict=True)]
    return Figure(
        "two_workers_speedup",
        median(ratios),
        "ratio",
        f"median of {len(ratios)} (from {min(ratios):.2f} to {max(ratios):.2f}) of wall(one) / wall(two), in turns;"
        f" wall = last finished_at - first started_at of {sizes.speedup_runs} scheduled runs, medians"
        f" {median(walls[1]):.1f} s and {median(walls[2]):.1f} s; workers of concurrency 8; dbt stub"
        f" {sizes.speedup_dbt_seconds:g} s, so that the work is not CPU-bound",
        Target(">=", 1.8),
    )


def _recovery(services: Services, sizes: Sizes) -> Figure:
    seconds: list[float] = []
    lease = {"KIKET_LEASE_TTL_SECONDS": f"{_LEASE_SECONDS:g}", "KIKET_TICK_INTERVAL_SECONDS": "1"}
    with services.installation("recovery", organization_count=sizes.kills, **lease) as installation:
        workers = installation.start_workers(2, concurrency=1)
        installation.start_ticker()
        with installation.requests() as request:
            for number in range(1, sizes.kills + 1):
                installation.set_dbt_seconds(_ANY_TIME_SECONDS)
                installation.opt_in(number, 1, due=False)
                run_id = request(number)
                installation.wait_for_dbt()
                # At another moment between two renewals of the lease each time.
                time.sleep(_LEASE_SECONDS / 3 * (1 + number / sizes.kills))
                installation.set_dbt_seconds(0)
                name = installation.value("select worker from kiket_analytics.runs where run_id = %s", run_id)
                (victim,) = (worker for worker in workers if name.endswith(f":{worker.child.pid}"))
                killed_at = datetime.now(UTC)
                victim.kill()
                wait_for_success(installation, number)
                installation.wait_for_dbt()
                started_at = installation.value(
                    "select started_at from kiket_analytics.attempts where run_id = %s and attempt = 2", run_id
                )
                seconds.append((started_at - killed_at).total_seconds())
                workers.remove(victim)
                if number < sizes.kills:
                    workers += installation.start_workers(1, concurrency=1)
    return Figure(
        "recovery_after_sigkill_seconds",
        max(seconds),
        "s",
        f"the longest of {len(seconds)} (median {median(seconds):.2f}) from the SIGKILL of a worker in dbt to the"
        f" second attempt's started_at at another worker; KIKET_LEASE_TTL_SECONDS={_LEASE_SECONDS:g}; a ticker runs"
        " with its outbox interval at the default of 1 s; target: the lease's time + 2 s",
        Target("<=", _LEASE_SECONDS + 2),
    )


def _wall_seconds(installation: Installation, runs: int) -> float:
    """Let `runs` organisations be due, and give the time from the first start to the last end."""
    began_at = installation.value("select clock_timestamp()")
    before = installation.value("select count(*) from kiket_analytics.runs")
    installation.opt_in(1, runs, due=True)
    installation.tick_once()
    wait_for_success(installation, before + runs)
    return float(
        installation.value(
            "select extract(epoch from max(finished_at) - min(started_at))::float from kiket_analytics.runs"
            " where queued_at >= %s",
            began_at,
        )
    )


def _starts(installation: Installation, run_ids: Sequence[RunId]) -> _Starts:
    rows = installation.rows(
        "select extract(epoch from started_at - queued_at)::float as seconds from kiket_analytics.runs"
        " where run_id = any(%s)",
        run_ids,
    )
    return _Starts([row["seconds"] for row in rows])


def wait_for_success(installation: Installation, total: int, *, seconds: float = 180) -> None:
    """Wait until the ledger has `total` runs and all have succeeded."""

    def succeeded() -> bool:
        row = installation.rows(
            "select count(*) filter (where status = 'succeeded') as succeeded,"
            " count(*) filter (where status in ('failed', 'cancelled', 'skipped')) as others,"
            " min(error_message) as error from kiket_analytics.runs"
        )[0]
        if row["others"]:
            raise BenchmarkFailed(f"{row['others']} runs did not succeed: {row['error']}")
        return bool(row["succeeded"] == total)

    installation.wait(succeeded, f"{total} succeeded runs", seconds=seconds)


def _scheduled(installation: Installation, status: str) -> int:
    return int(
        installation.value(
            "select count(*) from kiket_analytics.runs where reason = 'scheduled' and status = %s", status
        )
    )


def _pauses() -> Iterator[float]:
    """Seconds between requests, from 0.3 to 0.9: spread evenly and out of step with the runs, the same every time."""
    return (0.3 + 0.6 * (number * 0.618034 % 1) for number in count(1))


def _say(what: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {what}\n")
    sys.stderr.flush()
