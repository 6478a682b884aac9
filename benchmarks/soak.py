"""Two thousand refreshes by one worker: its memory, its open files and its temporary files stay as they are.

The worker is looked at after each batch, when it has nothing in hand, children and all. The first hundred refreshes are
left out: what is loaded once is loaded by then.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from benchmarks import trend
from benchmarks.figures import Benchmark, Figure, Target
from benchmarks.progress import say
from benchmarks.queue import wait_for_success
from benchmarks.replaying import replaying, wait_until_compiled
from benchmarks.services import Installation, running


@dataclass(frozen=True)
class Sizes:
    """How much is done. `batch` organisations are refreshed between two looks."""

    refreshes: int = 2000
    batch: int = 50
    left_out: int = 100
    issues: int = 60


FULL = Sizes()
SHORT = Sizes(refreshes=8, batch=2, left_out=2, issues=10)


@dataclass(frozen=True)
class Look:
    """What a worker has when it has nothing to do: kilobytes of memory, open files, and files that it has left."""

    kilobytes: int
    descriptors: int
    temporary: int


def measure(short: bool) -> Benchmark:  # noqa: FBT001  # every benchmark is called so
    """Measure everything: about four minutes on two cores, in short form, with a stub for dbt, ten seconds."""
    sizes = SHORT if short else FULL
    looks: list[Look] = []
    with (
        running() as services,
        replaying(services, "soak", organization_count=sizes.batch, issues=sizes.issues, stub=short) as installation,
    ):
        say("recording dbt")
        (worker,) = installation.start_workers(1, concurrency=2)
        wait_until_compiled(installation, worker)
        say(f"{sizes.refreshes} refreshes")
        for total in range(sizes.batch, sizes.refreshes + 1, sizes.batch):
            installation.opt_in(1, sizes.batch, due=True)
            installation.tick_once()
            wait_for_success(installation, total, seconds=1800)
            installation.wait(lambda: _is_idle(installation), "leases that are given back")
            looks.append(_look(worker.child.pid, Path(installation.variables["TMPDIR"])))
    return Benchmark("soak", services.machine, _figures(looks[sizes.left_out // sizes.batch :], sizes))


def _figures(looks: list[Look], sizes: Sizes) -> list[Figure]:
    memory = [float(look.kilobytes) for look in looks]
    measured = sizes.refreshes - sizes.left_out
    what = (
        f"resident memory of worker and children after each {sizes.batch} refreshes of {sizes.refreshes} by replay, the"
        f" first {sizes.left_out} left out: {len(looks)} looks, median {median(memory) / 1024:.1f} MB, from"
        f" {min(memory) / 1024:.1f} to {max(memory) / 1024:.1f}"
    )
    grown = trend.slope(memory) * (len(memory) - 1)
    return [
        Figure(
            "memory_growth_share",
            max(1e-9, grown / median(memory)),
            "ratio",
            f"Theil-Sen's slope times {measured} refreshes ({grown:.0f} kB), as a share of the median; {what}",
            Target("<=", 0.01),
        ),
        Figure(
            "memory_growth_probability",
            max(1e-9, trend.growth_probability(memory)),
            "ratio",
            f"chance to see as much growth where there is none (Mann-Kendall, one-sided); {what}. Growth is told where"
            " this is below 0.01 and the share above 0.01: pages that a process touches once make a trend as well",
        ),
        Figure(
            "descriptors_spread",
            max(look.descriptors for look in looks) - min(look.descriptors for look in looks) + 1e-9,
            "files",
            f"the most open files less the fewest, at the same looks; median {median(x.descriptors for x in looks):g}."
            " Two connections may come and go with the pool",
            Target("<=", 4),
        ),
        Figure(
            "temporary_files_left",
            max(look.temporary for look in looks) + 1e-9,
            "files",
            "the most files and folders in TMPDIR at any of the same looks",
            Target("<=", 0.5),
        ),
    ]


def _is_idle(installation: Installation) -> bool:
    return bool(installation.value("select count(*) = 0 from kiket_analytics.leases where worker is not null"))


def _look(pid: int, folder: Path) -> Look:
    worker = psutil.Process(pid)
    processes = [worker, *worker.children(recursive=True)]
    return Look(
        sum(process.memory_info().rss for process in processes) // 1024,
        sum(process.num_fds() for process in processes),
        # `walk` goes on where a folder is removed meanwhile.
        sum(len(folders) + len(files) for _, folders, files in os.walk(folder)),
    )
