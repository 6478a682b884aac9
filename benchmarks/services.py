"""What benchmarks run on: a Postgres and a RabbitMQ of their own, and the product's commands as processes.

Everything lies in one temporary folder and ends with the `with` block that started it, however the block ends.
"""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import pika
import psycopg
from psycopg.rows import DictRow, dict_row

from benchmarks.figures import Machine, machine
from kiket_worker.contract import QUEUE_DEAD, QUEUE_REQUESTS, QUEUE_SCHEDULED, RefreshMessage
from kiket_worker.dbt.bundle import core_bundle, shared_bundle
from kiket_worker.dev import environment, platform, postgres, rabbitmq
from kiket_worker.dev.secrets import DevSecrets, secrets_of
from kiket_worker.dev.service import last_lines, until
from kiket_worker.events import TICKER_STARTED, WORKER_STARTED
from kiket_worker.ledger import organizations, outbox
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.runs import RunId
from kiket_worker.queue.broker import open_broker
from kiket_worker.queue.publisher import publish_run
from kiket_worker.refresh.requests import accept
from kiket_worker.settings import Settings
from kiket_worker.telemetry.logs import silence_logs

_COMMAND = Path(sys.executable).parent / "kiket-worker"
_TEMPLATE = "bench_template"
_START_SECONDS = 60
_TICK_SECONDS = 300

# dbt without its work: what the product needs to see of a successful run with one model, after a time of waiting.
_STUB = """\
#!/bin/sh
while [ "$1" != --target-path ]; do shift; done
mkdir -p "$2"
read -r seconds < '{folder}/stub-seconds'
: > '{folder}/stub-begun'
[ "$seconds" = 0 ] || sleep "$seconds"
printf '%s' '{results}' > "$2/run_results.json"
printf '{{}}' > "$2/manifest.json"
"""
_STUB_RESULTS = (
    '{"results": [{"unique_id": "model.stub.one", "status": "success", "execution_time": 0.0, "message": "stub",'
    ' "adapter_response": {"rows_affected": 1}}]}'
)


class BenchmarkFailed(Exception):
    """Something did not happen, so there is nothing to measure."""


class Child(Protocol):
    """A process that leads its session: what is needed of a `subprocess.Popen`."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None:
        """The code it has ended with, if it has."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; the code it has ended with."""

    def send_signal(self, number: signal.Signals, /) -> None:
        """Send it a signal, unless it has ended."""


# Arguments of the product's command, its environment, its folder, and the file for all that it says.
Launch = Callable[[Sequence[str], Mapping[str, str], Path, IO[bytes]], Child]


def launch(arguments: Sequence[str], environment: Mapping[str, str], folder: Path, output: IO[bytes]) -> Child:
    """Start a command of the product as users do."""
    return subprocess.Popen(
        [str(_COMMAND), *arguments],
        env=environment,
        cwd=folder,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


@dataclass(frozen=True)
class Services:
    """Running services. `folder` is short enough for Postgres' socket and removed in the end.

    `launch` starts the product's commands in their installations.
    """

    folder: Path
    admin_url: str
    rabbitmq_url: str
    machine: Machine
    launch: Launch = launch

    @contextmanager
    def installation(self, name: str, *, organization_count: int, **variables: str) -> Iterator["Installation"]:
        """An installation with a database and queues that nobody has used.

        Its organisations are `org-00001` and on, not opted in, and its shared models are there already.
        """
        folder = self.folder / name
        (folder / "tmp").mkdir(parents=True)
        url = postgres.create_database(self.admin_url, f"bench_{name}", template=_TEMPLATE)
        secrets = secrets_of(self.folder)  # The same for each: its roles are the server's.
        own = environment.set_up_roles(url, secrets)
        with ExitStack() as stack:
            ledger = stack.enter_context(psycopg.connect(url, autocommit=True, row_factory=dict_row))
            ledger.execute(
                "insert into public.organizations (id, slug, name, plan, created_at)"
                " select number, 'org-' || lpad(number::text, greatest(5, length(number::text)), '0'),"
                " 'Organisation ' || number, 'business', now() from generate_series(1, %s) as number",
                [organization_count],
            )
            pretend_shared_models(ledger)
            self._delete_queues()
            stub = folder / "stub-dbt"
            stub.write_text(_STUB.format(folder=folder, results=_STUB_RESULTS))
            stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
            chosen = {
                "DATABASE_URL": own,
                "KIKET_TENANT_KEYS": secrets.tenant_keys,
                "RABBITMQ_URL": self.rabbitmq_url,
                "ARTIFACTS_URL": (folder / "artifacts").as_uri(),
                "KIKET_DBT_EXECUTABLE": str(stub),
                # Workers are killed here, and leave their folders behind.
                "TMPDIR": str(folder / "tmp"),
            }
            installation = Installation(folder, chosen | variables, ledger, self.launch)
            stack.callback(installation.end)
            yield installation
        postgres.drop_database(self.admin_url, f"bench_{name}")
        shutil.rmtree(folder)

    def _delete_queues(self) -> None:
        with pika.BlockingConnection(pika.URLParameters(self.rabbitmq_url)) as connection:
            channel = connection.channel()
            for queue in (QUEUE_REQUESTS, QUEUE_SCHEDULED, QUEUE_DEAD):
                channel.queue_delete(queue)


@dataclass
class Installation:
    """One installation of the product: its ledger, its dbt, and the processes started in it."""

    folder: Path
    variables: dict[str, str]
    ledger: psycopg.Connection[DictRow]
    launch: Launch
    _started: list["Process"] = field(default_factory=list)

    def rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        """What a statement gives; it is committed at once."""
        cursor = self.ledger.execute(query.encode(), parameters)
        return cursor.fetchall() if cursor.description else []

    def value(self, query: str, *parameters: object) -> Any:
        """The only value of a statement's only row."""
        (row,) = self.rows(query, *parameters)
        (value,) = row.values()
        return value

    def set_dbt_seconds(self, seconds: float) -> None:
        """How long each dbt that starts from now on takes."""
        fresh = self.folder / "stub-seconds.new"
        fresh.write_text(f"{seconds:g}\n")
        fresh.rename(self.folder / "stub-seconds")

    def wait_for_dbt(self) -> None:
        """Wait until a dbt has started since the last call."""
        begun = self.folder / "stub-begun"
        self.wait(begun.exists, "a dbt that starts")
        begun.unlink()

    def opt_in(self, first: int, count: int, *, due: bool) -> None:
        """Opt in `count` organisations from number `first` on; due at once, or not for the next hours."""
        self.rows(
            "insert into kiket_analytics.analytics_settings as settings (organization_id, enabled, last_run_at)"
            " select number, true, case when %s::boolean then null else now() end"
            " from generate_series(%s::int, %s::int) as number"
            " on conflict (organization_id) do update set last_run_at = excluded.last_run_at",
            due,
            first,
            first + count - 1,
        )

    def start(self, *arguments: str) -> "Process":
        """Start a command of the product."""
        log = self.folder / f"{len(self._started)}-{arguments[0]}.log"
        base = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        with log.open("wb") as output:
            child = self.launch(arguments, base | self.variables, self.folder, output)
        self._started.append(Process(child, log))
        return self._started[-1]

    def start_workers(self, count: int, *, concurrency: int) -> list["Process"]:
        """Start workers at the same time and wait until each takes messages."""
        workers = [self.start("worker", "--concurrency", str(concurrency)) for _ in range(count)]
        for worker in workers:
            self.wait_for_event(worker, WORKER_STARTED.name)
        return workers

    def start_ticker(self) -> "Process":
        """Start a ticker and wait until it ticks."""
        ticker = self.start("ticker")
        self.wait_for_event(ticker, TICKER_STARTED.name)
        return ticker

    def tick_once(self) -> None:
        """Let a ticker queue and publish what is due."""
        ticker = self.start("ticker", "--once")
        if ticker.child.wait(_TICK_SECONDS) != 0:
            raise BenchmarkFailed(f"the ticker failed:\n{last_lines(ticker.log)}")

    def wait_for_event(self, process: "Process", name: str) -> None:
        """Wait until a process has logged an event. Raises `BenchmarkFailed` when it ends instead."""

        def logged() -> bool:
            if process.child.poll() is not None:
                raise BenchmarkFailed(f"{process.log.name} ended before {name}:\n{last_lines(process.log)}")
            return f'"{name}"' in process.log.read_text()

        self.wait(logged, f"{name} in {process.log.name}", _START_SECONDS)

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Wait until a condition holds. Raises `BenchmarkFailed`, with the end of each log, after `seconds`."""
        if not until(condition, seconds):
            logs = "\n".join(f"{process.log.name}:\n{last_lines(process.log)}" for process in self._started)
            raise BenchmarkFailed(f"not within {seconds:g} s: {what}\n{logs}")

    @contextmanager
    def requests(self) -> Iterator[Callable[[int], RunId]]:
        """What asks for a refresh of the organisation of a number, as the product's own interfaces do.

        The request is a row in the ledger, then a message; connections are kept open between requests.
        """
        silence_logs()
        settings = Settings.model_validate(self.variables)
        with Database(settings.database_url.get_secret_value()) as database:
            broker = open_broker(settings)

            def request(number: int) -> RunId:
                slug = f"org-{number:05d}"
                accepted = accept(database, RefreshMessage(version=1, organization=slug))
                organization = organizations.find(database, slug)
                outbox.publish_of(database, lambda run: publish_run(broker, run), organization.organization_id)
                return accepted.run_id

            yield request
            broker.close()

    def end(self) -> None:
        """Kill what still runs; a worker's dbt ends with it."""
        for process in self._started:
            process.kill()


@dataclass(frozen=True)
class Process:
    """A command of the product that was started, and the file that its output goes to."""

    child: Child
    log: Path

    def kill(self) -> None:
        """End it as a crash would (SIGKILL), and wait for that."""
        if self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()


def pretend_shared_models(superuser: psycopg.Connection[Any]) -> None:
    """Let the shared models look as if they had just been built, so that no refresh builds them."""
    superuser.execute("create schema if not exists analytics_shared")
    superuser.execute("create table analytics_shared.dim_dates ()")
    superuser.execute(
        "insert into kiket_analytics.shared_refreshes"
        " (schema_name, bundle_digest, lease_epoch, worker, outcome, finished_at)"
        " values ('analytics_shared', %s, 1, 'benchmark', 'succeeded', now())",
        [shared_bundle(core_bundle()).digest],
    )


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder with a path short enough for a unix socket, which TMPDIR's may not be; removed in the end."""
    folder = Path(tempfile.mkdtemp(prefix="kiket-bench-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres_in(folder: Path) -> Iterator[str]:
    """A Postgres with its data in `folder`, as the URL of its superuser; stopped in the end."""
    try:
        yield postgres.start(folder)
    finally:
        postgres.stop(folder)


def postgres_version(admin_url: str) -> str:
    """What the server says of its version."""
    with psycopg.connect(admin_url) as connection:
        return connection.info.parameter_status("server_version") or "unknown"


@contextmanager
def running() -> Iterator[Services]:
    """Start the services; stop them and remove all that they left, in the end."""
    with temporary_folder() as folder, postgres_in(folder / "postgres") as admin_url:
        try:
            rabbitmq_url = rabbitmq.start(folder / "rabbitmq")
            with pika.BlockingConnection(pika.URLParameters(rabbitmq_url)) as client:
                # What a server says of itself is in pika's inner connection only.
                rabbitmq_version = str(client._impl.server_properties["version"])
            versions = machine(postgres=postgres_version(admin_url), rabbitmq=rabbitmq_version)
            _create_template(admin_url, secrets_of(folder))
            yield Services(folder, admin_url, rabbitmq_url, versions)
        finally:
            rabbitmq.stop(folder / "rabbitmq")


def _create_template(admin_url: str, secrets: DevSecrets) -> None:
    """What each installation's database is a clone of: all migrations take longer than much that is done there."""
    url = postgres.create_database(admin_url, _TEMPLATE)
    with psycopg.connect(url) as connection:
        platform.create_tables(connection)
    environment.set_up_roles(url, secrets)
