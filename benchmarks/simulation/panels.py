"""Lag by plan against how many refreshes go on at a time: what the chart shows, and `make bench` prints."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from statistics import mean

from benchmarks.figures import percentile
from benchmarks.simulation import sizing
from benchmarks.simulation.chart import Panel, Point
from benchmarks.simulation.population import counts
from benchmarks.simulation.simulation import Outcome
from kiket_worker.ledger.organizations import Plan

Draw = Callable[[Random], float]


def panel(engine: str, seconds: Sequence[float], organizations: int, *, after_outage: bool) -> Panel:
    """An hour as any, or the hours after an outage of a day, with several numbers of threads."""
    of_plans = counts(organizations)
    lag = sizing.interval(Plan.ENTERPRISE) / 10
    service = mean(seconds)
    by_formula = sizing.needed(of_plans, service, plan=Plan.ENTERPRISE, lag=lag)
    threads = by_formula.threads if after_outage else max(1, -int(-by_formula.steady // 1))
    lines = _lines(
        of_plans, _around(threads), lambda random: random.choice(seconds), sizing.herd if after_outage else sizing.hour
    )
    situation = "after an outage of a day" if after_outage else "an hour as any"
    return Panel(f"{engine}, {service:.2g} s a refresh: {situation}", lines, threads, lag.total_seconds())


def said(line: Sequence[Point]) -> str:
    """A plan's line in words."""
    lags = ", ".join(f"{point.threads}: {point.p50:.0f}/{point.p99:.0f}" for point in line)
    return f"lag p50/p99 in seconds by refreshes at a time: {lags}"


def _around(threads: int) -> list[int]:
    """Numbers of threads on either side of one."""
    return sorted({max(1, round(threads * factor)) for factor in (0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0)})


def _lines(
    of_plans: Mapping[Plan, int],
    numbers: Sequence[int],
    draw: Draw,
    situation: Callable[[Mapping[Plan, int], int, Draw], Outcome],
) -> dict[Plan, list[Point]]:
    lines: dict[Plan, list[Point]] = {plan: [] for plan in Plan}
    for threads in numbers:
        for plan, lags in sizing.lags(situation(of_plans, threads, draw).runs).items():
            lines[plan].append(Point(threads, percentile(lags, 50), percentile(lags, 99)))
    return lines
