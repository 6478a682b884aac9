"""The demo: the whole way of a refresh on sample organisations, checked by looking at what it left."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from pydantic import SecretStr

from kiket_worker.artifacts.reading import faults
from kiket_worker.artifacts.store import store_of
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.dev import environment, postgres, sample
from kiket_worker.dev.inspection import DictConnection, Refreshed, faults_of
from kiket_worker.dev.report import OrganizationReport, Week, write_report
from kiket_worker.dev.secrets import secrets_of
from kiket_worker.ledger import connections, organizations, runs
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.outbox import Waiting
from kiket_worker.ledger.runs import RunId, Status
from kiket_worker.queue.broker import MemoryBroker, open_broker
from kiket_worker.queue.consumers import Consumers
from kiket_worker.queue.publisher import publish_run
from kiket_worker.refresh.services import compile_core_bundle, open_services
from kiket_worker.refresh.worker import RefreshWorker
from kiket_worker.schedule.ticker import tick
from kiket_worker.settings import EngineName, Settings, settings_from
from kiket_worker.tenants.keys import TenantKeys
from kiket_worker.tenants.login import Login, session
from kiket_worker.tenants.schema import reader_name, schema_name

DATABASE = "kiket_demo"
PAUSED = "oneills-garage"
NOT_YET_DUE = "zubr_i_syn"

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class DemoResult:
    """What the demo found. `faults` is empty exactly when everything is as it should be."""

    refreshed: list[Refreshed]
    faults: list[str]
    report: Path

    def document(self) -> dict[str, Any]:
        """The result as `demo --json` prints it."""
        return {
            "organizations": [
                {
                    "slug": organization.slug,
                    "plan": organization.plan,
                    "due": organization.due,
                    "status": organization.status,
                    "models": len(organization.models),
                    "usage_events": organization.usage_events,
                    "duration_seconds": organization.duration_seconds,
                }
                for organization in self.refreshed
            ],
            "consistent": not self.faults,
            "faults": self.faults,
            "report": str(self.report),
        }


def run_demo(directory: Path, tell: Callable[[str], None]) -> DemoResult:
    """Start a Postgres, load nine organisations, refresh those that are due, and check the result.

    Everything is kept under `directory`; the database is made anew each time, and Postgres is stopped at the end.
    `tell` hears what is going on. Raises `InvalidSetting` before anything is started, `DevServiceFailed`, and what the
    ledger raises.
    """
    _settings(directory)  # What is wrong with the environment is said before anything is made.
    settings = _settings(directory, secrets_of(directory).tenant_keys)
    now = datetime.now(UTC)
    try:
        tell("starting Postgres")
        admin_url = postgres.start(directory / "postgres")
        specs = sample.demo()
        tell(f"loading {len(specs)} organisations with {sum(spec.issues for spec in specs):,} issues")
        url = environment.load_platform(admin_url, DATABASE, specs, now=now)
        own = environment.set_up_roles(url, secrets_of(directory))
        settings = settings.model_copy(update={"database_url": SecretStr(own)})
        with Database(own, max_connections=connections.pooled(settings.concurrency)) as database:
            _prepare_schedule(database, now)
            _record_earlier_usage(url, now)
            return _refresh_and_check(settings, database, url, directory, tell)
    finally:
        with _undisturbed():
            tell("stopping Postgres")
            postgres.stop(directory / "postgres")


def _settings(directory: Path, keys: str | None = None) -> Settings:
    return settings_from(
        {
            # Which server it is, the started one tells.
            "DATABASE_URL": f"postgresql:///{DATABASE}",
            "RABBITMQ_URL": "memory://",
            "ARTIFACTS_URL": (directory / "artifacts").as_uri(),
            # Given here, they are not taken from the environment: dbt must not reach a real database.
            **dict.fromkeys(["DBT_HOST", "DBT_PORT", "DBT_DATABASE", "DBT_USER", "DBT_PASSWORD"]),
            "DBT_SHARED_SCHEMA": "analytics_shared",
            "KIKET_ISOLATION": "roles",
            "KIKET_TENANT_KEYS": keys,
            "KIKET_GATES_FILE": None,
        }
    )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore signals, so that a second Ctrl-C does not leave behind what the first one began to stop."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _prepare_schedule(database: Database, now: datetime) -> None:
    paused = organizations.find(database, PAUSED)
    organizations.save_settings(database, paused.organization_id, enabled=False)
    fresh = organizations.find(database, NOT_YET_DUE)
    with database.transaction() as connection:
        connection.execute(
            "update kiket_analytics.analytics_settings set last_run_at = %s where organization_id = %s",
            [now - timedelta(minutes=30), fresh.organization_id],
        )


def _record_earlier_usage(admin_url: str, now: datetime) -> None:
    """Without it, every organisation's usage mart would be empty at its first refresh, leak or no leak."""
    statement = (Path(__file__).parent / "sql" / "earlier_usage.sql").read_bytes()
    with psycopg.connect(admin_url) as connection:
        connection.execute(statement, {"now": now})


def _refresh_and_check(
    settings: Settings, database: Database, admin_url: str, directory: Path, tell: Callable[[str], None]
) -> DemoResult:
    broker = open_broker(settings)
    assert isinstance(broker, MemoryBroker)

    def publish(run: Waiting) -> None:
        publish_run(broker, run)

    if settings.engine is EngineName.REPLAY:
        tell("recording dbt once for all organisations")
        compile_core_bundle(settings, database)
    with _working(settings, database, broker):
        first = tick(database, publish, now=datetime.now(UTC), republish_after_seconds=settings.republish_after_seconds)
        tell(f"{len(first.queued)} organisations are due: {', '.join(run.organization_slug for run in first.queued)}")
        _wait(database, [run.run_id for run in first.queued], tell)
        second = tick(
            database, publish, now=datetime.now(UTC), republish_after_seconds=settings.republish_after_seconds
        )
        tell(f"a second tick finds {len(second.queued)} due")
    due = {run.organization_slug: run.run_id for run in first.queued}
    refreshed = [
        _look(database, organization.slug, organization.plan, due.get(organization.slug))
        for organization in organizations.list_with_settings(database)
    ]
    refreshed.sort(key=lambda organization: organization.slug)
    found = [f"{run.organization_slug} is due again at once" for run in second.queued]
    expected = {spec.slug for spec in sample.demo()} - {PAUSED, NOT_YET_DUE}
    if set(due) != expected:
        found.append(f"due were {sorted(due)}, and not {sorted(expected)}")
    store = store_of(settings)
    reports = []
    with psycopg.connect(admin_url, row_factory=dict_row) as raw:
        for organization in refreshed:
            with _reader(settings, organization) as reader:
                found += faults_of(organization, raw, reader)
                reports.append(_report(organization, raw, reader))
            if organization.run and organization.run.artifacts_location:
                run = organization.run
                found += faults(
                    store, f"{run.organization_slug}/{run.run_id}/{run.attempt}", run.artifacts_index_sha256
                )
    report = write_report(directory / "report.html", reports, found)
    return DemoResult(refreshed, found, report)


@contextmanager
def _reader(settings: Settings, organization: Refreshed) -> Iterator[DictConnection | None]:
    """A session of the organisation's read-only twin; None where it was not refreshed, and has no schema."""
    if organization.run is None or organization.run.status is not Status.SUCCEEDED:
        yield None
        return
    keys, role = TenantKeys.from_settings(settings), reader_name(organization.slug)
    with session(
        DbtConnection.from_settings(settings).address, Login(role, keys.password(role, keys.current))
    ) as reader:
        yield reader


@contextmanager
def _working(settings: Settings, database: Database, broker: MemoryBroker) -> Iterator[None]:
    services = open_services(settings, database, lambda run: publish_run(broker, run))
    worker = RefreshWorker(services)
    consumers = Consumers(broker, worker.handle, concurrency=settings.concurrency)
    consumers.start()
    try:
        yield
    except BaseException:
        worker.stop()
        raise
    finally:
        with _undisturbed():
            worker.finish()
            consumers.stop()


def _wait(database: Database, run_ids: list[Any], tell: Callable[[str], None]) -> None:
    """Wait until every run has ended, telling of each. The worker's time limit bounds it."""
    waiting = set(run_ids)
    while waiting:
        for run_id in list(waiting):
            run = runs.get(database, run_id)
            if run.status.has_ended:
                waiting.discard(run_id)
                tell(f"{run.organization_slug}: {run.status}" + (f" ({run.error_message})" if run.error_kind else ""))
        time.sleep(_POLL_SECONDS)


def _look(database: Database, slug: str, plan: str, run_id: RunId | None) -> Refreshed:
    if run_id is None:
        return Refreshed(slug, plan, due=False, run=None, models=[], usage_events=0)
    rows = database.rows(
        b"select count(*) as events from kiket_analytics.usage_events where run_id = %(run_id)s", {"run_id": run_id}
    )
    return Refreshed(
        slug,
        plan,
        due=True,
        run=runs.get(database, run_id),
        models=runs.models(database, run_id),
        usage_events=rows[0]["events"],
    )


def _report(organization: Refreshed, raw: DictConnection, reader: DictConnection | None) -> OrganizationReport:
    name = raw.execute("select name from public.organizations where slug = %s", [organization.slug]).fetchone()
    weeks = []
    if reader:
        schema = schema_name(organization.slug)
        weeks = reader.execute(
            sql.SQL(
                "select date_trunc('week', completed_on)::date as week, sum(issues_completed)::int as completed,"
                " (sum(avg_cycle_days * issues_completed) / sum(issues_completed))::float as cycle_days"
                " from {} join {} using (project_id, completed_on)"
                " where completed_on >= current_date - 364 group by 1 order by 1"
            ).format(sql.Identifier(schema, "fct_throughput"), sql.Identifier(schema, "fct_cycle_time"))
        ).fetchall()
    return OrganizationReport(
        slug=organization.slug,
        name=name["name"] if name else organization.slug,
        plan=organization.plan,
        status=organization.status,
        models=len(organization.models),
        usage_events=organization.usage_events,
        duration_seconds=organization.duration_seconds,
        weeks=[Week(row["week"], row["completed"], row["cycle_days"]) for row in weeks],
    )
