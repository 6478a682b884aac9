"""`kiket-worker` for tests that start it often and look at what it says: imported once, a fifth of the computing each.

Not for tests whose subject is the process: who gets its signals, what its start imports, by which number it is known.
"""

import importlib
import sys
from functools import cache
from pathlib import Path

from kiket_worker.cli import app
from tests.support import forks, warm_dbt


@cache
def executable() -> Path:
    """The command, whose server is started at the first call and ends with this process."""
    warm_dbt.executable()  # Here, so that the other server inherits it.
    return forks.client("kiket-worker", __name__)


def main() -> None:
    forks.serve(_warm, _run)


def _warm() -> None:
    for name in (*(f"kiket_worker.cli.{name.replace('-', '_')}" for name in app._COMMANDS), "psycopg"):
        importlib.import_module(name)
    # dbt is run, recorded and tried by many tests; the benchmarks, and those of processes, do it in earnest.
    warm_dbt.use_everywhere()


def _run(arguments: list[str]) -> None:
    sys.argv = ["kiket-worker", *arguments]
    app.main()
