"""What a second worker, or thread, brings where refreshes are nothing but computing, on a machine of two processors.

A refresh by replay is the worker's computing and then Postgres', one after the other, so that one worker that does one
refresh at a time keeps one processor busy, and two keep two. Postgres' share of that is part of the figures, and so is
what the machine itself gives to two processes that compute at once.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import psutil

from benchmarks.figures import Benchmark, Figure, Target
from benchmarks.progress import say
from benchmarks.queue import wait_for_success
from benchmarks.refreshes import postmaster_of, server_seconds
from benchmarks.replaying import replaying, wait_until_compiled
from benchmarks.services import BenchmarkFailed, Installation, Process, running
from kiket_worker.events import ENGINE_DEOPTIMISED


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    runs: int = 120
    few: int = 24
    issues: int = 400
    pairs: int = 4
    spin: int = 4_000_000


# How many refreshes each worker has at a time.
_ARRANGEMENTS = {"one": (1,), "two": (1, 1), "threads": (2,)}
FULL = Sizes()
SHORT = Sizes(runs=4, few=2, issues=20, pairs=1, spin=400_000)


@dataclass(frozen=True)
class Load:
    """What a number of refreshes took, in seconds: on the clock, and of the processors by workers and by Postgres."""

    wall: float
    workers: float
    postgres: float


def measure(short: bool) -> Benchmark:  # noqa: FBT001  # every benchmark is called so
    """Measure everything: about five minutes on two cores, in short form, with a stub for dbt, ten seconds."""
    sizes = SHORT if short else FULL
    loads: dict[str, list[Load]] = {name: [] for name in _ARRANGEMENTS}
    machines: list[float] = []
    with (
        running() as services,
        replaying(services, "workers", organization_count=sizes.runs, issues=sizes.issues, stub=short) as installation,
    ):
        postmaster = postmaster_of(services.folder)
        say("recording dbt")
        (recorder,) = installation.start_workers(1, concurrency=1)
        wait_until_compiled(installation, recorder)
        say("first refreshes")
        _load(installation, sizes.runs, [recorder], postmaster)
        recorder.kill()
        for _ in range(sizes.pairs):
            for name, threads in _ARRANGEMENTS.items():
                workers = [worker for count in threads for worker in installation.start_workers(1, concurrency=count)]
                _load(installation, sizes.few * len(workers), workers, postmaster)  # They load what was recorded.
                loads[name].append(_load(installation, sizes.runs, workers, postmaster))
                if any(f'"{ENGINE_DEOPTIMISED.name}"' in worker.log.read_text() for worker in workers):
                    raise BenchmarkFailed("a worker has run dbt itself")
                for worker in workers:
                    worker.kill()
            machines.append(_machine(sizes.spin))
            walls = ", ".join(f"{name} {of[-1].wall:.1f} s" for name, of in loads.items())
            say(f"{walls}, the machine {machines[-1]:.2f}")
    return Benchmark("workers", services.machine, _figures(loads, machines, sizes))


def _figures(loads: dict[str, list[Load]], machines: Sequence[float], sizes: Sizes) -> list[Figure]:
    speedups = [one.wall / two.wall for one, two in zip(loads["one"], loads["two"], strict=True)]
    of_threads = [one.wall / two.wall for one, two in zip(loads["one"], loads["threads"], strict=True)]
    shares = [load.postgres / (load.postgres + load.workers) for of in loads.values() for load in of]
    busy = {name: median((load.workers + load.postgres) / load.wall for load in of) for name, of in loads.items()}
    load_average = os.getloadavg()[1]
    return [
        Figure(
            "cpu_bound_speedup",
            median(speedups),
            "ratio",
            f"median of {len(speedups)} (from {min(speedups):.2f} to {max(speedups):.2f}) of wall(one) / wall(two)"
            f" workers of concurrency 1, in turns; wall = until the last finished_at of {sizes.runs} refreshes by"
            f" replay, {sizes.issues} issues each, that were all published before, medians"
            f" {median(load.wall for load in loads['one']):.1f} s and {median(load.wall for load in loads['two']):.1f}"
            f" s; processors busy with workers and Postgres: {busy['one']:.2f} with one worker, {busy['two']:.2f} with"
            f" two; the machine's load average over five minutes at the end: {load_average:.1f}",
            Target(">=", 1.8),
        ),
        Figure(
            "threads_speedup",
            median(of_threads),
            "ratio",
            f"the same for one worker with KIKET_CONCURRENCY=2 against one with 1, from {min(of_threads):.2f} to"
            f" {max(of_threads):.2f}; processors busy: {busy['threads']:.2f}",
        ),
        Figure(
            "postgres_cpu_share",
            median(shares),
            "ratio",
            "CPU of all processes of Postgres (/proc) against that and the workers' (their processes and children),"
            f" median of {len(shares)}",
        ),
        Figure(
            "machine_speedup",
            median(machines),
            "ratio",
            f"what two processes that only count get done against one in the same time, median of {len(machines)}, in"
            " turns with the others: the most that a second worker can bring here and now",
        ),
        Figure(
            "speedup_against_machine",
            median(speedups) / median(machines),
            "ratio",
            "cpu_bound_speedup against machine_speedup: 1 where the second worker gets all that the machine has left",
            Target(">=", 0.9),
        ),
    ]


def _load(installation: Installation, runs: int, workers: Sequence[Process], postmaster: psutil.Process) -> Load:
    before = installation.value("select count(*) from kiket_analytics.runs")
    installation.opt_in(1, runs, due=True)
    # A tick is a process that computes for a second: beside one worker it would have a processor of its own, beside two
    # it would take some of theirs.
    for worker in workers:
        worker.child.send_signal(signal.SIGSTOP)
    installation.tick_once()
    began_at = installation.value("select clock_timestamp()")
    of_workers, of_postgres = sum(map(_cpu_seconds, workers)), server_seconds(postmaster)
    for worker in workers:
        worker.child.send_signal(signal.SIGCONT)
    wait_for_success(installation, before + runs, seconds=1800)
    wall = installation.value(
        "select extract(epoch from max(finished_at) - %s)::float from kiket_analytics.runs", began_at
    )
    return Load(wall, sum(map(_cpu_seconds, workers)) - of_workers, server_seconds(postmaster) - of_postgres)


def _cpu_seconds(worker: Process) -> float:
    used = psutil.Process(worker.child.pid).cpu_times()
    return used.user + used.system + used.children_user + used.children_system


def _machine(spin: int) -> float:
    """How much more two processes that only count get done than one."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        pool.map(_spin, [1, 1], chunksize=1)  # Both are there.
        began = time.perf_counter()
        pool.apply(_spin, (spin,))
        one = time.perf_counter() - began
        began = time.perf_counter()
        pool.map(_spin, [spin, spin], chunksize=1)
        return 2 * one / (time.perf_counter() - began)


def _spin(count: int) -> int:
    number = 0
    for _ in range(count):
        number += 1
    return number
