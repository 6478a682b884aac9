"""A site under fault: workers and tickers as processes of their own, a dbt that can be held, and the audit at the end.

A test stops a process at a step without waiting by the clock: by *gates*, which are advisory locks of Postgres. The
test holds a gate; a trigger on a table of the ledger, or the stand-in for dbt, waits in it, inside a statement.
"""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pika
import psutil
import psycopg
from psycopg.rows import DictRow, dict_row

from kiket_worker.artifacts.reading import faults
from kiket_worker.artifacts.store import open_store
from kiket_worker.contract import QUEUE_DEAD, QUEUE_REQUESTS, QUEUE_SCHEDULED
from kiket_worker.dev import environment
from tests.support import forks, warm_command
from tests.support.dbt_scripts import until
from tests.support.refreshes import shared_models
from tests.support.tenants import SECRETS

LEASE_SECONDS = 2.0

DBT = "dbt"
GATES = {
    # Where a worker waits: before which write, seen by the database.
    "the claim's commit": "before insert on kiket_analytics.attempts for each row",
    "begin_models": "before delete on kiket_analytics.run_models for each statement",
    "record_model": "before insert on kiket_analytics.run_models for each row",
    "mark_built": "before update on kiket_analytics.runs for each row"
    " when (old.status = 'running' and new.status = 'built')",
    "mark_archived": "before update on kiket_analytics.runs for each row"
    " when (old.status = 'built' and new.status = 'archived')",
    "record_usage": "before insert on kiket_analytics.usage_events for each row",
    "the final commit": "before update on kiket_analytics.leases for each row when (new.worker is null)",
}

# What the audit reads afterwards. The writers' table is fed by dbt's sessions, and says whether each was alone: each
# holds an advisory lock of its schema for as long as Postgres keeps the session, whatever became of its process.
_AUDIT = """
create table public.writers (
    number bigint primary key generated always as identity,
    run text not null, schema_name text not null, epoch bigint, process_id integer not null, alone boolean not null,
    began timestamptz not null default clock_timestamp(), ended timestamptz
);
create function public.gate() returns trigger language plpgsql as $$
begin
    perform pg_advisory_xact_lock_shared(8, hashtext(tg_argv[0]));
    return new;
end $$;
grant usage on schema public, kiket_analytics to analytics_tenants;
grant select, insert, update on public.writers to analytics_tenants;
grant select on kiket_analytics.leases to analytics_tenants;
update kiket_analytics.analytics_settings set last_run_at = now();
"""

_DBT = """
import json, os, pathlib, signal, sys
import psycopg

arguments = sys.argv[1:]
options = dict(zip(arguments, arguments[1:]))
tenant = json.loads(options["--vars"])
schema, run = tenant["organization_schema"], os.environ["DBT_APPLICATION_NAME"]
ids = ["model.kiket_analytics." + name for name in ("stg_issues", "fct_throughput")]


def tell(name, model, status):
    info = {"name": name, "level": "info", "msg": name}
    node = {"unique_id": model, "resource_type": "model", "node_status": status}
    print(json.dumps({"info": info, "data": {"node_info": node, "execution_time": 0.01}}), flush=True)


def write():
    with psycopg.connect(
        host=os.environ["DBT_HOST"], port=os.environ["DBT_PORT"], dbname=os.environ["DBT_DATABASE"],
        user=os.environ["DBT_USER"], application_name=run, autocommit=True,
    ) as connection:
        alone = connection.execute("select pg_try_advisory_lock(7, hashtext(%s))", [schema]).fetchone()[0]
        number = connection.execute(
            "insert into public.writers (run, schema_name, epoch, process_id, alone)"
            " values (%s, %s, (select epoch from kiket_analytics.leases where schema_name = %s), %s, %s)"
            " returning number", [run, schema, schema, os.getpid(), alone],
        ).fetchone()[0]
        if pathlib.Path(__file__).with_name("crash-" + tenant["organization_slug"]).exists():
            guard = pathlib.Path("/proc/%d/stat" % os.getppid()).read_text()
            os.kill(int(guard.rpartition(")")[2].split()[1]), signal.SIGKILL)
            signal.pause()
        connection.execute("select pg_advisory_lock_shared(8, hashtext('dbt'))")
        connection.execute("create table if not exists " + schema + ".built (number bigint)")
        connection.execute("insert into " + schema + ".built values (%s)", [number])
        connection.execute("update public.writers set ended = clock_timestamp() where number = %s", [number])
        connection.execute("select pg_advisory_unlock_all()")


for model in ids:
    tell("LogStartLine", model, "started")
status, message = "success", "OK"
try:
    write()
except psycopg.Error as fault:  # As dbt says it.
    status, message = "error", "Database Error " + str(fault)
for model in ids:
    tell("LogModelResult", model, status)
results = [
    {"unique_id": model, "status": status, "execution_time": 0.01, "message": message,
     "adapter_response": {"rows_affected": 1}}
    for model in ids
]
target = pathlib.Path(options["--target-path"])
target.mkdir(parents=True)
(target / "run_results.json").write_text(json.dumps({"results": results}))
(target / "manifest.json").write_text("{}")
sys.exit(0 if status == "success" else 1)
"""


@dataclass
class Service:
    """A process of the product, and what it has logged."""

    process: forks.Fork
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines(keepends=True)
        found = [json.loads(line) for line in lines if line.endswith("\n") and line.startswith("{")]
        return [event for event in found if name in (None, event["event"])]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def until_event(self, name: str, seconds: float = 30) -> dict[str, Any]:
        return until(lambda: self.events(name), f"{self.log.name} has {name}", seconds=seconds)[0]


@dataclass
class Site:
    """The sample platform, nothing of it due, and the processes that serve it."""

    folder: Path
    database_url: str
    rabbitmq_url: str
    variables: dict[str, str]
    services: list[Service] = field(default_factory=list)

    @classmethod
    def prepare(cls, folder: Path, database_url: str, rabbitmq_url: str, ledger_url: str | None = None) -> "Site":
        """`ledger_url` is that of the worker's own login, where roles are set up already."""
        parts = urlsplit(database_url)
        made = cls(
            folder,
            database_url,
            rabbitmq_url,
            {
                "DATABASE_URL": ledger_url or environment.set_up_roles(database_url, SECRETS),
                "KIKET_TENANT_KEYS": SECRETS.tenant_keys,
                "RABBITMQ_URL": rabbitmq_url,
                "ARTIFACTS_URL": (folder / "artifacts").as_uri(),
                # Named, so that dbt goes past a proxy of the worker's.
                "DBT_HOST": parse_qs(parts.query)["host"][0],
                "DBT_PORT": "5432",
                "TMPDIR": str(folder / "tmp"),
                "KIKET_DBT_EXECUTABLE": str(folder / "dbt"),
                "KIKET_LEASE_TTL_SECONDS": str(LEASE_SECONDS),
                "KIKET_TICK_INTERVAL_SECONDS": "0.5",
                "KIKET_OUTBOX_INTERVAL_SECONDS": "0.2",
                "KIKET_RETRY_BASE_SECONDS": "0.1",
            },
        )
        (folder / "tmp").mkdir()
        (folder / "dbt").write_text(f"#!{sys.executable} -I\n{textwrap.dedent(_DBT)}")
        (folder / "dbt").chmod(0o755)
        made.execute(shared_models())
        made.execute(_AUDIT)
        for number, (gate, when) in enumerate(GATES.items()):
            name = gate.replace("'", "''")
            made.execute(f"create trigger gate_{number} {when} execute function public.gate('{name}')")
        delete_queues(rabbitmq_url)
        return made

    def start(self, command: str, *arguments: object, **variables: str) -> Service:
        base = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        log = self.folder / f"{command}-{len(self.services)}.log"
        with log.open("ab") as file:
            process = forks.start(
                warm_command.executable(),
                [command, *map(str, arguments)],
                environment=base | self.variables | variables,
                folder=self.folder,
                output=file,
            )
        self.services.append(Service(process, log))
        return self.services[-1]

    def start_cluster(self, *, workers: int = 2, **variables: str) -> list[Service]:
        """A ticker and workers, begun together; the workers, once they all take messages."""
        self.start("ticker", **variables)
        started = [self.start("worker", **variables) for _ in range(workers)]
        for service in started:
            service.until_event("worker.started")
        return started

    def run_command(self, *arguments: str) -> str:
        base = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        command = [warm_command.executable(), *arguments]
        done = subprocess.run(
            command, env=base | self.variables, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout

    def ask(self, slug: str = "acme", **fields: Any) -> None:
        """A message as a foreign service publishes it. Repeated by a redelivery, it means the same run."""
        message = {"version": 1, "organization": slug, "idempotency_key": f"test-{slug}"} | fields
        with pika.BlockingConnection(pika.URLParameters(self.rabbitmq_url)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish("", QUEUE_REQUESTS, json.dumps(message).encode(), mandatory=True)

    def rows(self, query: str, *parameters: object) -> list[DictRow]:
        with self.connect() as connection:
            return connection.execute(query.encode(), parameters or None).fetchall()

    def execute(self, text: str, *parameters: object) -> None:
        with self.connect() as connection:
            connection.execute(text.encode(), parameters or None)

    def connect(self) -> psycopg.Connection[DictRow]:
        return psycopg.connect(self.database_url, autocommit=True, row_factory=dict_row, application_name="fault-test")

    @contextmanager
    def held(self, gate: str) -> Iterator["Gate"]:
        """Whoever comes to the gate waits there until it is opened, or the block ends."""
        connection = self.connect()
        try:
            connection.execute("select pg_advisory_lock(8, hashtext(%s))", [gate])
            yield Gate(self, gate, connection)
        finally:
            connection.close()

    def claimant(self, slug: str = "acme") -> Service:
        """The worker that holds the organisation's run."""
        rows = until(
            lambda: self.rows(
                "select worker from kiket_analytics.runs where organization_slug = %s and worker is not null", slug
            ),
            "a worker claims the run",
        )
        return self.service_of(rows[0]["worker"])

    def service_of(self, worker: str) -> Service:
        return next(service for service in self.services if worker.endswith(f":{service.pid}"))

    def writers(self) -> list[DictRow]:
        return self.rows("select * from public.writers order by number")

    def attempts(self) -> list[DictRow]:
        return self.rows("select * from kiket_analytics.attempts order by started_at, lease_epoch")

    def usage(self) -> int:
        return len(self.rows("select from kiket_analytics.usage_events"))

    def now(self) -> Any:
        return self.rows("select clock_timestamp() as now")[0]["now"]

    def until_succeeded(self, *slugs: str, seconds: float = 30) -> None:
        wanted = set(slugs or ("acme",))

        def succeeded() -> bool:
            rows = self.rows("select organization_slug as slug, status from kiket_analytics.runs")
            return wanted <= {row["slug"] for row in rows if row["status"] == "succeeded"}

        self.until(succeeded, f"{wanted} are refreshed", seconds)

    def until(self, condition: Callable[[], Any], what: str, seconds: float = 20) -> None:
        """Wait; what is known is told with the failure if it is in vain."""
        try:
            until(condition, what, seconds=seconds)
        except AssertionError as fault:
            fault.add_note(self.story())
            raise

    def story(self) -> str:
        """What is known of a failed test."""
        parts = [str(row) for row in self.rows("select * from kiket_analytics.runs")]
        parts += [str(row) for row in self.rows("select * from kiket_analytics.leases")]
        parts += [str(row) for row in self.attempts()]
        parts += [f"== {service.log.name}\n{service.log.read_text()[-6000:]}" for service in self.services]
        return "\n".join(parts)

    def end(self) -> None:
        """End the processes by force; what a test has not done by then it did not need."""
        for service in self.services:
            if not service.has_ended():
                service.kill()

    def stop(self) -> None:
        """End the processes in order."""
        left = [service for service in self.services if not service.has_ended()]
        for service in left:
            service.send(signal.SIGTERM)
        for service in left:
            assert service.process.wait(20) == 0, service.log.read_text()[-2000:]

    def audit(self, *, statuses: tuple[str, ...] = ("succeeded",)) -> None:
        """What has to hold after any fault, by the records of the database, the store and the kernel."""
        try:
            self._audit(statuses)
        except AssertionError as fault:
            fault.add_note(self.story())
            raise

    def _audit(self, statuses: tuple[str, ...]) -> None:
        self._until_at_rest()
        self.stop()
        runs = self.rows("select * from kiket_analytics.runs order by queued_at, run_id")
        assert runs
        assert {run["status"] for run in runs} <= set(statuses), runs
        self._audit_writers()
        for run in runs:
            self._audit_usage(run)
        assert not self.rows("select * from kiket_analytics.leases where worker is not null")
        assert not self.rows("select * from kiket_analytics.attempts where outcome is null")
        assert not self._sessions()
        assert not self.processes()
        assert not list((self.folder / "tmp").glob("kiket-run-*"))

    def _until_at_rest(self) -> None:
        until(
            lambda: not self.rows("select from kiket_analytics.runs where finished_at is null"), "every run has ended"
        )
        until(lambda: not self._sessions(), "dbt's sessions have ended", seconds=5)
        until(lambda: not self.processes(), "dbt's processes have ended", seconds=5)

    def _audit_writers(self) -> None:
        writers = self.writers()
        assert all(writer["alone"] for writer in writers), writers
        for one in writers:
            for other in writers:
                if one["number"] < other["number"] and one["schema_name"] == other["schema_name"] and one["ended"]:
                    assert one["ended"] <= other["began"], (one, other)
        # One dbt for each attempt at most, and none that wrote without an attempt.
        attempts = {(f"kiket-run-{row['run_id']}", row["lease_epoch"]) for row in self.attempts()}
        claimed = [(writer["run"], writer["epoch"]) for writer in writers]
        assert len(set(claimed)) == len(claimed), writers
        assert set(claimed) <= attempts, writers

    def _audit_usage(self, run: DictRow) -> None:
        models = [
            row["model_id"]
            for row in self.rows("select model_id from kiket_analytics.usage_events where run_id = %s", run["run_id"])
        ]
        if run["status"] != "succeeded":
            assert models == []
            return
        recorded = self.rows("select model_id from kiket_analytics.run_models where run_id = %s", run["run_id"])
        assert sorted(models) == sorted(row["model_id"] for row in recorded)
        assert len(models) == 2
        prefix = run["artifacts_location"].partition(f"/{run['organization_slug']}/")[2]
        with self.environment():
            store = open_store(self.variables["ARTIFACTS_URL"])
            assert list(faults(store, f"{run['organization_slug']}/{prefix}")) == []

    @contextmanager
    def environment(self) -> Iterator[None]:
        before = dict(os.environ)
        os.environ.update({name: value for name, value in self.variables.items() if name.startswith("AWS_")})
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    def _sessions(self) -> list[DictRow]:
        return self.rows(
            "select pid, application_name from pg_stat_activity"
            " where application_name like 'kiket-run-%%' and datname = current_database() and %s",
            True,
        )

    def processes(self) -> list[psutil.Process]:
        """Living guards and dbt of this site's runs, whoever their parent is by now."""
        names = {f"kiket-run-{row['run_id']}" for row in self.rows("select run_id from kiket_analytics.runs")}
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("DBT_APPLICATION_NAME") in names and process.status() != "zombie":
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found


@dataclass
class Gate:
    """A gate that its test holds."""

    site: Site
    name: str
    connection: psycopg.Connection[DictRow]

    def until_reached(self, waiting: int = 1) -> None:
        """Wait until as many as that wait in the gate."""

        def reached() -> bool:
            rows = self.connection.execute(
                "select from pg_locks where locktype = 'advisory' and classid = 8 and objid::bigint"
                " = (hashtext(%s)::bigint & 4294967295) and not granted"
                " and database = (select oid from pg_database where datname = current_database())",
                [self.name],
            ).fetchall()
            return len(rows) >= waiting

        try:
            until(reached, f"{waiting} wait before {self.name}")
        except AssertionError as fault:
            fault.add_note(self.site.story())
            raise

    def open(self) -> None:
        self.connection.execute("select pg_advisory_unlock_all()")


def delete_queues(rabbitmq_url: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(rabbitmq_url)) as connection:
        for queue in (QUEUE_REQUESTS, QUEUE_SCHEDULED, QUEUE_DEAD):
            connection.channel().queue_delete(queue)
