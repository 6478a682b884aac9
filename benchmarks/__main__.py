"""`python -m benchmarks [NAME…] [--short] [--output FILE]`: measure, and print one JSON object per benchmark."""

import argparse
import importlib
import json
import signal
import sys
from pathlib import Path
from typing import Any

# Modules of this package, each with a `measure`. One is imported when it is run: a process that a benchmark starts of
# itself imports this one again.
BENCHMARKS = ("queue", "isolation", "replay", "definitions", "console", "ticker", "scale", "workers", "soak")


def main() -> None:
    """Run what the command line names. A target that is missed is no error: the figure says so."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"unless named, all: {', '.join(BENCHMARKS)}")
    parser.add_argument("--short", action="store_true", help="few repetitions: shows that it works, measures little")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the list of all results here as well")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    # As an exception, so that whatever was started is stopped.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    documents: list[dict[str, Any]] = []
    for name in options.names or BENCHMARKS:
        measure = importlib.import_module(f"benchmarks.{name}").measure
        documents.append(measure(options.short).document())
        sys.stdout.write(json.dumps(documents[-1]) + "\n")
        sys.stdout.flush()
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(documents, indent=2) + "\n")


if __name__ == "__main__":
    main()
