"""dbt for tests that need many of its runs: imported once, so that each takes four seconds less of computing.

`dbt …`; or `python -m MODULE …` where the first argument is -m.
"""

import gc
import importlib
import json
import os
import runpy
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from kiket_worker.dbt.bundle import core_bundle
from kiket_worker.dbt.child import run_child
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.dbt.engine import Tenant
from kiket_worker.dbt.executable import ExecutableEngine
from kiket_worker.dbt.invocation import arguments, environment
from kiket_worker.definitions.trial import trial
from kiket_worker.refresh import recordings
from tests.support import forks

# Where processes that this one starts, and that inherit the variable, find its server.
VARIABLE = "WARM_DBT"


@cache
def executable() -> Path:
    """A dbt executable, whose server is started at the first call and ends with the process that has called."""
    if given := os.environ.get(VARIABLE):
        return Path(given)
    made = forks.client("dbt", __name__)
    os.environ[VARIABLE] = str(made)
    return made


def run_warm(command: list[str], **given: Any) -> int:
    """`run_child` for those who start `python -I -m MODULE …` to record or to try dbt."""
    assert command[1:3] == ["-I", "-m"]
    return run_child([str(executable()), *command[2:]], **given)


def use_everywhere() -> None:
    """Let this process record, try and run dbt so, for good, wherever that of this environment would be run."""
    warm, own = str(executable()), (Path("dbt"), Path(sys.executable).parent / "dbt")
    trial.run_child = recordings.run_child = run_warm
    find = ExecutableEngine._find_executable
    ExecutableEngine._find_executable = lambda engine: warm if engine._executable in own else find(engine)


def main() -> None:
    forks.serve(_warm, _run)


def _warm() -> None:
    for name in ("dbt.cli.main", "dbt.adapters.postgres", "dbt.task.run", "psycopg"):
        importlib.import_module(name)
    importlib.import_module("dbt_common.tests").enable_test_caching()  # dbt's own, of what its Jinja has parsed.
    _quicken()
    _parse()


def _quicken() -> None:
    """Let dbt do the same by less computing: it writes JSON by Python, and reads source files to find a name."""
    from dbt_common import behavior_flags

    json.dump = lambda document, file, **options: file.write(json.dumps(document, **options))
    behavior_flags.BehaviorFlagRendered._default_source = staticmethod(lambda: "dbt.adapters.postgres.impl")


def _parse() -> None:
    """Parse the core project: the first time, dbt makes what reads and writes its classes, in half of the computing.

    The macros' templates stay as well.
    """
    from dbt.cli.main import dbtRunner
    from dbt_common.clients.jinja import template_cache

    tenant = Tenant(1, "warm", "analytics_org_warm", "analytics_shared", "analytics_raw", "analytics_raw")
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= environment(
            DbtConnection("/nowhere", 5432, "nothing", "nobody", ""), tenant, workdir=folder, application_name="warm"
        )
        options = arguments(core_bundle(), tenant, workdir=folder, target=folder / "target")
        # Its static parser begins threads, which a fork would wait for in vain.
        done = dbtRunner().invoke(["parse", *options, "--no-static-parser", "--quiet"])
        assert done.success, done.exception
        for macro in done.result.macros.values():
            template_cache.get_node_template(macro)
    os.environ.clear()
    os.environ.update(before)


def _run(arguments: list[str]) -> None:
    gc.disable()  # It ends before it has made much garbage.
    if arguments[:1] == ["-m"]:
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = ["dbt", *arguments]
        importlib.import_module("dbt.cli.main").cli()
