"""`python -m benchmarks.simulation [--times FILE] [--chart FILE]`: lag by plan and threads, and the formula beside it.

`FILE` of `--times` has the seconds of refreshes by engine, as `python -m benchmarks scale` leaves them in
`build/service-times.json`.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from statistics import mean

from benchmarks.figures import percentile
from benchmarks.simulation import sizing
from benchmarks.simulation.chart import Panel, Point, chart
from benchmarks.simulation.population import counts
from benchmarks.simulation.simulation import Outcome
from kiket_worker.ledger.organizations import Plan

ORGANIZATIONS = 50_000
MEASURED = Path(__file__).with_name("service-times.json")

Draw = Callable[[Random], float]


def main() -> None:
    """Simulate with what was measured, print a table, and draw the chart where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument("--times", type=Path, metavar="FILE", default=MEASURED, help="measured service times")
    parser.add_argument("--organizations", type=int, metavar="N", default=ORGANIZATIONS)
    parser.add_argument("--chart", type=Path, metavar="FILE", help="write the chart here, as SVG")
    options = parser.parse_args()
    times: dict[str, list[float]] = json.loads(options.times.read_text())["seconds"]
    panels = [
        panel(engine, seconds, options.organizations, after_outage=after_outage)
        for engine, seconds in times.items()
        for after_outage in (False, True)
    ]
    for one in panels:
        sys.stdout.write(f"\n{one.title}; the formula gives {one.formula}\n")
        for plan, line in one.lines.items():
            lags = ", ".join(f"{point.threads}: {point.p50:.0f}/{point.p99:.0f}" for point in line)
            sys.stdout.write(f"  {plan:<11} lag p50/p99 in seconds by refreshes at a time: {lags}\n")
    if options.chart:
        title = f"Start lag of {options.organizations:,} organisations, simulated with measured service times"
        options.chart.write_text(chart(title, panels))


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


if __name__ == "__main__":
    main()
