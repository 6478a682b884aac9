"""`kiket-worker` for tests that start it often and look at what it says: imported once, a fifth of the computing each.

Not for tests whose subject is the process: who gets its signals, what its start imports, by which number it is known.
"""

import importlib
import os
import sys
from functools import cache
from pathlib import Path

from kiket_worker.cli import app
from kiket_worker.dbt.child import run_child
from kiket_worker.definitions.trial import trial
from tests.support import forks, warm_dbt

# Where the server of this module finds the other's program.
_WARM_DBT = "WARM_DBT"


@cache
def executable() -> Path:
    """The command, whose server is started at the first call and ends with this process."""
    os.environ[_WARM_DBT] = str(warm_dbt.executable())
    return forks.client("kiket-worker", __name__)


def main() -> None:
    forks.serve(_warm, _run)


def _warm() -> None:
    for name in (*(f"kiket_worker.cli.{name.replace('-', '_')}" for name in app._COMMANDS), "psycopg"):
        importlib.import_module(name)
    # Definitions are tried by many tests; the benchmark, and those of processes, try them as they are tried in earnest.
    warm = os.environ[_WARM_DBT]
    trial.run_child = lambda command, **given: run_child([warm, *command[2:]], **given)


def _run(arguments: list[str]) -> None:
    sys.argv = ["kiket-worker", *arguments]
    app.main()
