"""`python -m benchmarks.simulation [--times FILE] [--chart FILE]`: lag by plan and threads, and the formula beside it.

`FILE` of `--times` has the seconds of refreshes by engine, as `python -m benchmarks scale` leaves them in
`build/service-times.json`.
"""

import argparse
import json
import sys
from pathlib import Path

from benchmarks.simulation.chart import chart
from benchmarks.simulation.panels import panel, said

ORGANIZATIONS = 50_000
MEASURED = Path(__file__).with_name("service-times.json")


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
            sys.stdout.write(f"  {plan:<11} {said(line)}\n")
    if options.chart:
        title = f"Start lag of {options.organizations:,} organisations, simulated with measured service times"
        options.chart.write_text(chart(title, panels))


if __name__ == "__main__":
    main()
