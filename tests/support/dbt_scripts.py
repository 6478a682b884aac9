"""Stand-ins for dbt: real executables that follow dbt's documented output, and what tests do with them.

A stand-in prints events as dbt does with `--log-format json` and writes `run_results.json` into `--target-path`. It
meets its test by files in the folder where it lies, so that nobody waits by the clock.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil

_T = TypeVar("_T")

# Two models, each built when its test says so.
IN_STEPS = """
start("a")
wait_for("go_on")
finish("a")
start("b")
wait_for("go_on_again")
finish("b")
write({"results": [result("a"), result("b")]})
"""
# A model that Postgres refuses.
FAILING = """
start("a")
write({"results": [result("a", "error", "column does not exist")]})
sys.exit(1)
"""

_PROLOGUE = '''#!{python} {flags}
import json, os, subprocess, sys, time
from pathlib import Path

here = Path({folder!r})
arguments = sys.argv[1:]
target = Path(arguments[arguments.index("--target-path") + 1])
is_shared = arguments[arguments.index("--target") + 1] == "shared"


def say(name, level="info", msg="", **data):
    print(json.dumps({{"info": {{"name": name, "level": level, "msg": msg}}, "data": data}}), flush=True)


def node(model, status):
    return {{"unique_id": "model.fake." + model, "resource_type": "model", "node_status": status}}


def start(model):
    say("LogStartLine", node_info=node(model, "started"))


def finish(model, status="success"):
    say("LogModelResult", node_info=node(model, status), status="SELECT 5", execution_time=0.25)


def result(model, status="success", message="SELECT 5", rows=5):
    return {{"unique_id": "model.fake." + model, "status": status, "execution_time": 0.25, "message": message,
            "adapter_response": {{"rows_affected": rows}}}}


def write(document, name="run_results.json"):
    target.mkdir(parents=True, exist_ok=True)
    (target / name).write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())


def build(*models):
    for model in models:
        start(model)
        finish(model)
    write({{"results": [result(model) for model in models]}})


def tell(name, text=""):
    """Show the test a file, whole."""
    (here / (name + ".part")).write_text(text)
    (here / (name + ".part")).rename(here / name)


def wait_for(name):
    """Until the test has made the file; not for ever, so that a failing test leaves no process."""
    deadline = time.monotonic() + 60
    while not (here / name).exists():
        if time.monotonic() > deadline:
            sys.exit("the test never made " + name)
        time.sleep(0.01)


def hang():
    time.sleep(600)


'''


def dbt_script(folder: Path, body: str, *, libraries: bool = False) -> Path:
    """An executable with `body` after the prologue; with `libraries` it can import psycopg, and starts slower."""
    path = folder / "fake-dbt"
    flags = "-I" if libraries else "-IS"
    path.write_text(_PROLOGUE.format(python=sys.executable, flags=flags, folder=str(folder)) + body, encoding="utf-8")
    path.chmod(0o755)
    return path


def until(condition: Callable[[], _T], what: str, *, seconds: float = 20) -> _T:
    """Poll until `condition` gives something true, and give it; fail the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        time.sleep(0.01)
    return value


def processes_of(application_name: str) -> list[psutil.Process]:
    """The living processes that were started for a run, whoever their parent is by now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("DBT_APPLICATION_NAME") == application_name:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found
