"""dbt for tests that need many of its runs: imported once, so that each takes two and a half seconds less of computing.

`dbt …`; or `python -m MODULE …` where the first argument is -m.
"""

import contextlib
import importlib
import runpy
import sys
from functools import cache
from pathlib import Path

from tests.support import forks


@cache
def executable() -> Path:
    """A dbt executable, whose server is started at the first call and ends with this process."""
    return forks.client("dbt", __name__)


def main() -> None:
    forks.serve(_warm, _run)


def _warm() -> None:
    for name in ("dbt.cli.main", "dbt.adapters.postgres", "dbt.task.run", "psycopg"):
        importlib.import_module(name)
    from dbt_common.dataclass_schema import dbtClassMixin

    waiting = [dbtClassMixin]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__name__.endswith("Config") or kind.__name__.startswith("Unparsed"):
            with contextlib.suppress(Exception):  # Those that have none, dbt does not ask for it either.
                kind.json_schema()


def _run(arguments: list[str]) -> None:
    if arguments[:1] == ["-m"]:
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = ["dbt", *arguments]
        importlib.import_module("dbt.cli.main").cli()
