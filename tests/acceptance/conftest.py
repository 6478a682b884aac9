"""The product as its users have it: the command in a process of its own, with an environment of its own.

What runs in the background is started as users start it. What is run to its end is forked from a process that has
imported the command.
"""

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pika
import pytest

from kiket_worker.contract import QUEUE_DEAD, QUEUE_REQUESTS, QUEUE_SCHEDULED
from tests.support import warm_command
from tests.support.tenants import SECRETS

COMMAND = Path(sys.executable).parent / "kiket-worker"


@dataclass
class Result:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    def refused(self, code: int, *words: str) -> None:
        """One plain line on stderr with these words, and this exit code."""
        assert self.code == code, (self.out, self.err)
        assert "Traceback" not in self.err
        assert len(self.err.strip().splitlines()) == 1, self.err
        for word in words:
            assert word in self.err


@dataclass
class Installation:
    """An environment in which commands are run; processes started in it are ended with the test."""

    folder: Path
    variables: dict[str, str]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(
        self,
        *arguments: object,
        without: tuple[str, ...] = (),
        typed: str | None = None,
        command: Path | None = None,
        **variables: str,
    ) -> Result:
        """Run a command to its end; `typed` is what it reads from standard input."""
        done = subprocess.run(
            [command or warm_command.executable(), *map(str, arguments)],
            env=self._environment(variables, without),
            cwd=self.folder,
            capture_output=True,
            input=typed,
            text=True,
            timeout=120,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: object, **variables: str) -> subprocess.Popen[bytes]:
        """Run a command in the background; its lines go to `<folder>/<command>.log`."""
        with (self.folder / f"{arguments[0]}.log").open("ab") as log:
            process = subprocess.Popen(
                [COMMAND, *map(str, arguments)],
                env=self._environment(variables, ()),
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def log(self, command: str) -> list[dict[str, Any]]:
        """The events that a command started here has written so far."""
        text = (self.folder / f"{command}.log").read_text()
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def end(self) -> None:
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _environment(self, variables: dict[str, str], without: tuple[str, ...]) -> dict[str, str]:
        base = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        chosen = base | self.variables | variables
        return {name: value for name, value in chosen.items() if name not in without}


@pytest.fixture
def installation(tmp_path: Path, sample_database: Any) -> Iterator[Installation]:
    """The sample platform with ticker and worker in one process: no RabbitMQ."""
    made = Installation(
        tmp_path,
        {
            "DATABASE_URL": sample_database.with_roles(),
            "KIKET_TENANT_KEYS": SECRETS.tenant_keys,
            "RABBITMQ_URL": "memory://",
            "ARTIFACTS_URL": (tmp_path / "artifacts").as_uri(),
        },
    )
    yield made
    made.end()


@pytest.fixture
def cluster(installation: Installation, rabbitmq_url: str, quick_dbt: Path) -> Installation:
    """The sample platform with a real RabbitMQ, its queues gone, and a dbt that takes no time."""
    with pika.BlockingConnection(pika.URLParameters(rabbitmq_url)) as connection:
        for queue in (QUEUE_REQUESTS, QUEUE_SCHEDULED, QUEUE_DEAD):
            connection.channel().queue_delete(queue)
    installation.variables |= {
        "RABBITMQ_URL": rabbitmq_url,
        "KIKET_DBT_EXECUTABLE": str(quick_dbt),
        "KIKET_TICK_INTERVAL_SECONDS": "0.5",
    }
    return installation


@pytest.fixture
def quick_dbt(tmp_path: Path) -> Path:
    """A dbt that says what dbt would of two models, makes one relation, and waits while the file `hold` exists."""
    script = tmp_path / "quick-dbt"
    script.write_text(
        f"#!{sys.executable}\n"
        + textwrap.dedent(
            """
            import json, os, pathlib, sys, time
            if sys.argv[1:] == ["--version"]:
                sys.exit(print("Core:\\n  - installed: 1.11.0"))
            import psycopg

            options = dict(zip(sys.argv, sys.argv[1:]))
            tenant = json.loads(options["--vars"])
            is_shared = options["--target"] == "shared"
            schema = tenant["shared_schema"] if is_shared else tenant["organization_schema"]
            names = ["dim_dates"] if is_shared else ["stg_issues", "fct_throughput"]
            ids = [f"model.kiket_analytics.{name}" for name in names]

            def tell(name, model, status):
                info = {"name": name, "level": "info", "msg": f"{name} {model}"}
                node = {"unique_id": model, "resource_type": "model", "node_status": status}
                print(json.dumps({"info": info, "data": {"node_info": node, "execution_time": 0.01}}), flush=True)

            for model in ids:
                tell("LogStartLine", model, "started")
            hold = pathlib.Path(__file__).with_name("hold")
            while hold.exists():
                time.sleep(0.05)
            with psycopg.connect(
                host=os.environ["DBT_HOST"], port=os.environ["DBT_PORT"], dbname=os.environ["DBT_DATABASE"],
                user=os.environ["DBT_USER"], application_name=os.environ["DBT_APPLICATION_NAME"],
            ) as connection:
                connection.execute(f"create table if not exists {schema}.built (at timestamptz)")
                connection.execute(f"insert into {schema}.built values (now())")
            for model in ids:
                tell("LogModelResult", model, "success")
            results = [
                {"unique_id": model, "status": "success", "execution_time": 0.01, "message": "OK",
                 "adapter_response": {"rows_affected": 1}}
                for model in ids
            ]
            target = pathlib.Path(options["--target-path"])
            target.mkdir(parents=True)
            (target / "run_results.json").write_text(json.dumps({"results": results}))
            (target / "manifest.json").write_text("{}")
            """
        )
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


@pytest.fixture
def until() -> Callable[..., Any]:
    """Wait until a condition holds, and give what it gave; fail after the deadline."""

    def wait(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
        deadline = time.monotonic() + seconds
        while not (outcome := condition()):
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
            time.sleep(0.05)
        return outcome

    return wait
