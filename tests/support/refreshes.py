"""A worker's services with a stand-in for dbt: what tests of the pipeline start, watch and look at."""

import gzip
import io
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg.conninfo import conninfo_to_dict

from kiket_worker.artifacts.directory import DirectoryStore
from kiket_worker.artifacts.reading import faults
from kiket_worker.artifacts.store import Store
from kiket_worker.dbt.bundle import Bundle, core_bundle, shared_bundle
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.dbt.engine import Cancellation
from kiket_worker.dbt.executable import ExecutableEngine
from kiket_worker.ledger import claims, organizations, runs
from kiket_worker.ledger.claims import Claim
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.outbox import Waiting
from kiket_worker.ledger.runs import Request, Run, RunId, Status
from kiket_worker.refresh.bundles import PublishedBundles
from kiket_worker.refresh.pipeline import refresh
from kiket_worker.refresh.retries import RetryPolicy
from kiket_worker.refresh.services import Services
from kiket_worker.telemetry.logs import set_up_logs
from kiket_worker.telemetry.process import Telemetry
from kiket_worker.tenants.isolation import Isolation, SharedRole
from kiket_worker.tenants.login import Login
from kiket_worker.tenants.provisioning import Limits
from kiket_worker.tenants.schema import schema_name
from tests.support.dbt_scripts import dbt_script, until

# Every status that a run has had, in order, whoever wrote it and whatever was read in between.
_AUDIT = """
create table public.audit (number bigint primary key generated always as identity, run_id uuid, status text);
create function public.audit() returns trigger language plpgsql as $$
begin
    insert into public.audit (run_id, status) values (new.run_id, new.status);
    return null;
end $$;
create trigger audit after insert or update of status on kiket_analytics.runs
    for each row execute function public.audit();
"""
_SHARED = """
create schema if not exists analytics_shared;
create table analytics_shared.dim_dates (date_day date);
insert into kiket_analytics.shared_refreshes (schema_name, bundle_digest, lease_epoch, worker, outcome, finished_at)
values ('analytics_shared', '%s', 1, 'test', 'succeeded', now());
"""
# Wide enough that nothing of a test meets one.
LIMITS = Limits(connections=8, statement_seconds=900, idle_seconds=60, temp_megabytes=1024, quota_megabytes=1024)


def shared_models(bundle: Bundle | None = None) -> str:
    """Statements that make the shared models as if they had just been built, of the core bundle unless told."""
    return _SHARED % shared_bundle(bundle or core_bundle()).digest


def claimed(ledger: Database, run_id: UUID) -> Claim:
    """A run that a worker has in hand, and does nothing with."""
    claim = claims.claim(
        ledger, run_id, worker="here", ttl_seconds=60, schema_name=schema_name, end_sessions=lambda *_: 0
    )
    assert isinstance(claim, Claim)
    return claim


@dataclass
class Background:
    """A refresh that goes on in a thread."""

    thread: threading.Thread
    results: list[Any]

    def wait(self, seconds: float = 30) -> Status | None:
        """Its status at the end, or what it raised, raised again."""
        self.thread.join(seconds)
        assert not self.thread.is_alive(), "the refresh does not end"
        if isinstance(self.results[0], BaseException):
            raise self.results[0]
        return self.results[0]


@dataclass
class Refreshes:
    """The ledger of a sample database, a folder for artifacts, and services that are made as a test needs them."""

    url: str
    ledger: Database
    folder: Path
    published: list[Waiting] = field(default_factory=list)
    log: io.StringIO = field(default_factory=io.StringIO)

    @classmethod
    def prepare(cls, url: str, ledger: Database, folder: Path, *, shared: bool = True) -> "Refreshes":
        made = cls(url, ledger, folder)
        made.execute(_AUDIT)
        if shared:
            made.execute(shared_models())
        set_up_logs(made.log)
        return made

    @property
    def store(self) -> DirectoryStore:
        return DirectoryStore(self.folder / "artifacts")

    def services(
        self,
        script: str,
        *,
        libraries: bool = False,
        store: Store | None = None,
        lease_ttl_seconds: float = 30,
        time_limit_seconds: float = 60,
        worker: str = "here",
        isolation: Isolation | None = None,
    ) -> Services:
        parts = conninfo_to_dict(self.url)
        connection = DbtConnection(str(parts["host"]), 5432, str(parts["dbname"]), str(parts["user"]), "hush-hush")
        executable = dbt_script(self.folder, script, libraries=libraries)
        core = core_bundle()
        return Services(
            database=self.ledger,
            bundles=PublishedBundles(core, store or self.store),
            engine=ExecutableEngine(executable, connection, time_limit_seconds=time_limit_seconds),
            store=store or self.store,
            publish=self.published.append,
            worker=worker,
            isolation=isolation or SharedRole(LIMITS, connection.address, Login(connection.user, connection.password)),
            shared_schema="analytics_shared",
            shared_interval_hours=24,
            lease_ttl_seconds=lease_ttl_seconds,
            retries=RetryPolicy(attempts=3, crashes=2, base_seconds=0.01),
            random=lambda: 1.0,
            telemetry=Telemetry(worker),
        )

    def request(self, slug: str = "acme", **options: Any) -> RunId:
        found = organizations.find(self.ledger, slug)
        return runs.request(self.ledger, replace(Request(found.organization_id, slug), **options)).run_id

    def start(self, run_id: UUID, services: Services, cancellation: Cancellation | None = None) -> Background:
        return in_background(lambda: refresh(run_id, services, cancellation or Cancellation()))

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def execute(self, text: str, *parameters: object) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(text.encode(), parameters or None)

    def run(self, run_id: UUID) -> Run:
        return runs.get(self.ledger, run_id)

    def statuses(self, run_id: UUID) -> list[str]:
        return [status for (status,) in self.rows("select status from audit where run_id = %s order by number", run_id)]

    def usage(self) -> list[dict[str, Any]]:
        """The metadata of every usage event, by model."""
        query = "select metadata from kiket_analytics.usage_events order by model_id"
        return [metadata for (metadata,) in self.rows(query)]

    def lease(self, schema: str = "analytics_org_acme") -> tuple[Any, ...] | None:
        found = self.rows("select worker, epoch, expires_at from kiket_analytics.leases where schema_name = %s", schema)
        return found[0] if found else None

    def faults(self, run_id: UUID, attempt: int = 1, slug: str = "acme") -> list[str]:
        return list(faults(self.store, f"{slug}/{run_id}/{attempt}"))

    def left(self, run_id: UUID) -> str:
        """All that a run has left: its lines in the log, its files, unpacked, and what the ledger says of it."""
        files = [path for path in (self.folder / "artifacts").rglob("*") if path.is_file() and str(run_id) in str(path)]
        contents = [gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw for raw in map(Path.read_bytes, files)]
        return "\n".join(
            [
                self.log.getvalue(),
                *(content.decode("utf-8", "replace") for content in contents),
                str(self.run(run_id)),
                *map(str, runs.models(self.ledger, run_id)),
            ]
        )

    def files(self) -> set[str]:
        return {path.name for path in (self.folder / "artifacts").rglob("*") if path.is_file()}

    def sessions(self) -> int:
        """Database sessions of the runs' dbt."""
        query = (
            "select count(*) from pg_stat_activity where application_name like 'kiket-run-%%'"
            " and datname = current_database() and %s"
        )
        return int(self.rows(query, True)[0][0])

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def tell(self, name: str) -> None:
        (self.folder / name).touch()

    def until_told(self, name: str) -> None:
        until(lambda: self.has(name), f"dbt to make {name}")


def in_background(action: Callable[[], Any]) -> Background:
    results: list[Any] = []

    def go() -> None:
        try:
            results.append(action())
        except BaseException as fault:
            results.append(fault)

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    return Background(thread, results)
