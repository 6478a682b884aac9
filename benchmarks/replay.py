"""What a replayed refresh costs: against its bare statements, against dbt, and its readers.

CPU is that of the client (resource usage, children included) and of all processes of Postgres (/proc).
"""

import io
import multiprocessing
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import psycopg
from psycopg import sql

from benchmarks import readers
from benchmarks.figures import Benchmark, Figure, Target, machine
from benchmarks.refreshes import Side, postmaster_of, publish_nowhere
from benchmarks.services import BenchmarkFailed, postgres_in, postgres_version, pretend_shared_models, temporary_folder
from benchmarks.turns import Turns
from kiket_worker.dbt.engine import Cancellation, Listener, Options, Tenant
from kiket_worker.dbt.replay.compiled import Compiled
from kiket_worker.dbt.replay.engine import ReplayEngine
from kiket_worker.dbt.replay.holes import STAMP, filled
from kiket_worker.dbt.replay.probe import values_of
from kiket_worker.dbt.replay.relations import Names
from kiket_worker.dev import environment
from kiket_worker.dev.sample import OrganizationSpec
from kiket_worker.dev.secrets import DevSecrets, secrets_of
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.organizations import Plan
from kiket_worker.refresh.compilation import CompiledBundles
from kiket_worker.refresh.services import Services, open_services
from kiket_worker.settings import Settings, tenant_keys
from kiket_worker.telemetry.logs import set_up_logs
from kiket_worker.tenants.keys import TenantKeys
from kiket_worker.tenants.provisioning import Candidate, Limits, Provisioner
from kiket_worker.tenants.schema import reader_name, schema_name


@dataclass(frozen=True)
class Sizes:
    """How much is measured, and among how much."""

    tenants: int = 200
    issues: int = 75
    turns: int = 7
    tenants_each_turn: int = 28
    dbt_runs: int = 5
    replays_each_dbt_run: int = 20
    reader_issues: int = 45_000
    reader_refreshes: int = 30
    concurrent: int = 8
    hold_seconds: float = 2.0
    aged_slots: int = 10_000


FULL = Sizes()
SHORT = Sizes(
    tenants=2,
    turns=1,
    tenants_each_turn=1,
    dbt_runs=1,
    replays_each_dbt_run=1,
    reader_issues=500,
    reader_refreshes=2,
    concurrent=2,
    hold_seconds=0.2,
    aged_slots=16,
)


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock and of all processes, of several refreshes."""

    wall: float
    cpu: float


def measure(short: bool) -> Benchmark:  # noqa: FBT001  # as every benchmark
    """Everything that a replay is held to."""
    # As a worker writes them, but to nowhere.
    set_up_logs(io.StringIO())
    sizes = SHORT if short else FULL
    with temporary_folder() as folder, postgres_in(folder / "postgres") as admin_url:
        specs = [organization(number, sizes.issues) for number in range(1, sizes.tenants + 1)]
        specs.append(organization(sizes.tenants + 1, sizes.reader_issues))
        with replaying(folder, admin_url, "bench", tuple(specs), aged_slots=sizes.aged_slots) as installation:
            figures = [
                *installation.against_statements(sizes),
                *installation.against_dbt(sizes),
                *installation.readers(sizes),
                installation.memory(sizes),
                *installation.stored(),
            ]
        return Benchmark("replay", machine(postgres=postgres_version(admin_url), rabbitmq="not used"), figures)


def organization(number: int, issues: int) -> OrganizationSpec:
    """One of the organisations `bench-1` and on."""
    return OrganizationSpec(number, f"bench-{number}", f"Bench {number}", Plan.TEAM, projects=3, users=5, issues=issues)


@dataclass
class Installation:
    """A platform whose tenants are provisioned, and the product's services on it."""

    side: Side
    secrets: DevSecrets
    superuser_url: str
    compiled: Compiled = field(init=False)

    @property
    def services(self) -> Services:
        """Those of its one worker."""
        return self.side.services

    def against_statements(self, sizes: Sizes) -> list[Figure]:
        """The build step and the whole pipeline, against what dbt would have sent, sent by psycopg and nothing more."""
        ways: dict[str, Callable[[int], object]] = {
            "statements": self._send_statements,
            "build": self._build,
            "pipeline": self._refresh,
        }
        for number in range(1, sizes.tenants + 1):  # All relations are there, and every tenant has been met once.
            self._refresh(number)
        costs: dict[str, list[Cost]] = {name: [] for name in ways}
        for turn in range(sizes.turns):
            first = 1 + (turn * sizes.tenants_each_turn) % sizes.tenants
            numbers = [1 + (first + n - 1) % sizes.tenants for n in range(sizes.tenants_each_turn)]
            order = list(ways)[turn % 3 :] + list(ways)[: turn % 3]
            for name in order:
                costs[name].append(self._cost(ways[name], numbers))
        how = (
            f"refreshes of the core project (12 relations that exist) for {sizes.tenants} tenants of {sizes.issues}"
            f" issues, {sizes.tenants_each_turn} tenants each turn; dbt's statements without its questions,"
            " in one transaction over a session as the tenant, which is opened for each tenant on either side"
        )
        figures = []
        for name, target in (("build", 1.5), ("pipeline", 2.0)):
            for of in ("cpu", "wall"):
                measured, reference = ([getattr(cost, of) for cost in costs[side]] for side in (name, "statements"))
                figures.append(Turns(measured, reference).figure(f"{name}_{of}_ratio", how, Target("<=", target)))
        return figures

    def against_dbt(self, sizes: Sizes) -> list[Figure]:
        """`dbt run` against a replay of the same tenant."""
        engine = self.services.engine
        assert isinstance(engine, ReplayEngine)
        by_dbt, ours = [], []
        replays = sizes.replays_each_dbt_run
        for _ in range(sizes.dbt_runs):
            by_dbt.append(self._cost(lambda number: self._build(number, engine.executable), [1]))
            ours.append(self._cost(self._build, [1] * replays))
        return [
            Figure(
                f"dbt_{of}_ratio",
                median(getattr(cost, of) for cost in by_dbt) / median(getattr(cost, of) / replays for cost in ours),
                "ratio",
                f"`dbt run` of one tenant against its replay, medians of {sizes.dbt_runs} in turns",
                Target(">=", 50) if of == "cpu" else None,
            )
            for of in ("cpu", "wall")
        ]

    def readers(self, sizes: Sizes) -> list[Figure]:
        """Three readers that ask every millisecond while a large tenant is refreshed and its tables are swapped."""
        number = sizes.tenants + 1
        self._refresh(number)
        alone = self._watched(number, sizes.reader_refreshes, hold_seconds=0)
        beside = self._watched(number, max(2, sizes.reader_refreshes // 10), hold_seconds=sizes.hold_seconds)
        how = (
            f"{sizes.reader_issues} issues; each refresh finds an index that is not dbt's, so that a table is swapped;"
            " three readers that ask for some rows every millisecond: of that table, of one whose rows are replaced,"
            " and of a view"
        )
        return [
            Figure("reader_errors", alone.errors + beside.errors + 1e-9, "errors", how, Target("<=", 0.5)),
            Figure(
                "reader_stall_ms",
                max(0.001, alone.worst_ms - alone.control_ms),
                "ms",
                f"worst wait {alone.worst_ms:.1f} ms above the worst of a reader of another table,"
                f" {alone.control_ms:.1f} ms, in {sizes.reader_refreshes} refreshes; {how}",
                Target("<=", 15),
            ),
            Figure(
                "reader_stall_beside_slow_reader_ms",
                max(0.001, beside.worst_ms - beside.control_ms),
                "ms",
                f"the same beside a reader whose transaction stays for {sizes.hold_seconds:g} s each time",
                Target("<=", 60),
            ),
        ]

    def memory(self, sizes: Sizes) -> Figure:
        """How much more memory a worker has while it refreshes, for each refresh."""
        process = psutil.Process()
        idle, peak, ended = process.memory_info().rss, 0, threading.Event()

        def look() -> None:
            nonlocal peak
            while not ended.wait(0.001):
                peak = max(peak, process.memory_info().rss)

        threads = [threading.Thread(target=self._refresh, args=(n + 1,)) for n in range(sizes.concurrent)]
        watcher = threading.Thread(target=look)
        watcher.start()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ended.set()
        watcher.join()
        return Figure(
            "memory_mb_per_refresh",
            max(0.01, (peak - idle) / 2**20 / sizes.concurrent),
            "MB",
            f"the most that the worker's resident memory grew while {sizes.concurrent} refreshes went on at once",
            Target("<=", 20),
        )

    def stored(self) -> list[Figure]:
        """What a run leaves in the store."""
        found = list(self.services.store.list("bench-1"))
        runs = len({file.key.rpartition("/")[0] for file in found})
        how = f"all files and indexes of {runs} refreshes of one tenant by replay, packed as they are stored"
        return [
            Figure("stored_bytes_per_run", sum(file.size for file in found) / runs, "bytes", how),
            Figure("stored_files_per_run", len(found) / runs, "files", how),
        ]

    def _cost(self, way: Callable[[int], object], numbers: list[int]) -> Cost:
        began, cpu = time.perf_counter(), self.side.cpu_seconds()
        for number in numbers:
            way(number)
        return Cost(time.perf_counter() - began, self.side.cpu_seconds() - cpu)

    def _refresh(self, number: int) -> None:
        self.side.refresh_of(f"bench-{number}")

    def _tenant(self, number: int) -> Tenant:
        slug = f"bench-{number}"
        schema = schema_name(slug)
        isolation = self.services.isolation
        password = TenantKeys(tenant_keys(self.secrets.tenant_keys)).password(schema, 1)
        return Tenant(
            number,
            slug,
            schema,
            self.services.shared_schema,
            isolation.raw_schema,
            isolation.ledger_schema,
            schema,
            password,
        )

    def _build(self, number: int, engine: Any = None) -> None:
        with temporary_folder() as folder:
            outcome = (engine or self.services.engine).run(
                self.services.bundle,
                self._tenant(number),
                Options(folder, "kiket-run-benchmark", exclusion=("tag:shared",)),
                Listener(),
                Cancellation(),
            )
        if outcome.failure or (engine is None and outcome.deoptimised):
            raise BenchmarkFailed(
                f"tenant {number} was not built as it should be: {outcome.failure or outcome.deoptimised}"
            )

    def _send_statements(self, number: int) -> None:
        tenant = self._tenant(number)
        names = Names({})
        names.update(values_of(number, tenant.slug, tenant.schema))
        names[STAMP] = "000000000000"
        assert tenant.user is not None
        with self._session(tenant.user, tenant.password) as connection, connection.transaction():
            for node in self.compiled.nodes:
                trace = next(
                    (trace for trace in node.traces if dict(trace.relations).get(node.relation or "")), node.traces[0]
                )
                for step in trace.steps:
                    if step.answer is None:
                        connection.execute(filled(";".join(command.text for command in step.commands), names).encode())

    @contextmanager
    def _session(self, user: str, password: str) -> Iterator[psycopg.Connection[Any]]:
        info = psycopg.conninfo.conninfo_to_dict(self.superuser_url)
        with psycopg.connect(host=info["host"], dbname=info["dbname"], user=user, password=password) as connection:
            yield connection

    def _watched(self, number: int, refreshes: int, *, hold_seconds: float) -> "Watched":
        schema, info = schema_name(f"bench-{number}"), psycopg.conninfo.conninfo_to_dict(self.superuser_url)
        reader = reader_name(f"bench-{number}")
        password = TenantKeys(tenant_keys(self.secrets.tenant_keys)).password(reader, 1)
        session = {"host": info["host"], "dbname": info["dbname"], "user": reader, "password": password}
        relations = ("dim_projects", "fct_throughput", "stg_issues")
        queries = [_some_rows(schema, relation) for relation in relations]
        control = "select * from pg_catalog.pg_am limit 20"
        context = multiprocessing.get_context("spawn")
        stop, answers = context.Event(), context.Queue()
        processes = [
            context.Process(target=readers.read, args=(session, query, stop, answers), daemon=True)
            for query in [*queries, control]
        ]
        for process in processes:
            process.start()
        for _ in processes:
            answers.get(timeout=60)  # It reads.
        with psycopg.connect(self.superuser_url, autocommit=True) as superuser:
            for _ in range(refreshes):
                superuser.execute(
                    sql.SQL("create index on {} (project_name)").format(sql.Identifier(schema, "dim_projects"))
                )
                if hold_seconds:
                    self._refresh_beside(number, session, schema, hold_seconds)
                else:
                    self._refresh(number)
        stop.set()
        found = {query: (worst, errors) for query, worst, errors in (answers.get(timeout=60) for _ in processes)}
        for process in processes:
            process.join()
        return Watched(
            max(found[query][0] for query in queries), found[control][0], sum(errors for _, errors in found.values())
        )

    def _refresh_beside(self, number: int, session: dict[str, Any], schema: str, hold_seconds: float) -> None:
        with psycopg.connect(**session) as slow:
            slow.execute(_some_rows(schema, "dim_projects").encode())
            thread = threading.Thread(target=self._refresh, args=(number,))
            thread.start()
            time.sleep(hold_seconds)
        thread.join()


@dataclass(frozen=True)
class Watched:
    """What readers have met: the longest wait of any, that of the reader of another table, and errors."""

    worst_ms: float
    control_ms: float
    errors: int


def _some_rows(schema: str, relation: str) -> str:
    return sql.SQL("select * from {} limit 20").format(sql.Identifier(schema, relation)).as_string(None)


@contextmanager
def replaying(
    folder: Path, admin_url: str, name: str, specs: tuple[OrganizationSpec, ...], *, aged_slots: int
) -> Iterator[Installation]:
    """The platform with these organisations in a database of its own, and a worker's services that replay dbt there."""
    superuser_url = environment.load_platform(admin_url, name, specs, now=datetime.now(UTC))
    secrets = secrets_of(folder)
    own_url = environment.set_up_roles(superuser_url, secrets)
    _age(superuser_url, aged_slots)
    with psycopg.connect(superuser_url) as superuser:
        pretend_shared_models(superuser)
        superuser.execute("alter table analytics_shared.dim_dates owner to analytics_shared")
        superuser.execute("grant select on analytics_shared.dim_dates to analytics_tenants, analytics_readers")
    settings = Settings.model_validate(
        {
            "DATABASE_URL": own_url,
            "RABBITMQ_URL": "memory://",
            "ARTIFACTS_URL": (folder / "artifacts").as_uri(),
            "KIKET_TENANT_KEYS": secrets.tenant_keys,
            "KIKET_DBT_ENGINE": "replay",
            "KIKET_DBT_EXECUTABLE": str(Path(sys.executable).parent / "dbt"),
        }
    )
    with Database(own_url, max_connections=12) as database:
        provisioner = Provisioner(TenantKeys.from_settings(settings), Limits.from_settings(settings))
        for batch in provisioner.provision_all(database, [Candidate(spec.id, spec.slug) for spec in specs]):
            if faults := [one.fault for one in batch if one.fault]:
                raise BenchmarkFailed(f"a tenant was not provisioned: {faults[0]}")
        services = open_services(settings, database, publish_nowhere)
        engine = services.engine
        assert isinstance(engine, ReplayEngine)
        library = engine.library
        assert isinstance(library, CompiledBundles)
        made = Installation(Side("replay", services, postmaster_of(folder)), secrets, superuser_url)
        tenant = made._tenant(1)
        compiled = library.compile(services.bundle, tenant, Options(folder, "", exclusion=("tag:shared",)))
        if compiled is None or not compiled.is_replayable:
            raise BenchmarkFailed(f"the core project cannot be replayed: {compiled and compiled.reasons}")
        made.compiled = compiled
        yield made


def _age(superuser_url: str, most_slots: int) -> None:
    """Make the server one that has run for a while.

    A new one makes a schema for the temporary tables of each of its slots for sessions, when one is first used for any,
    and all sessions plan their statements anew. And it fills new segments of its write-ahead log with zeros, for 48 ms
    at every 16th MB, in somebody's commit; later it takes old segments for new ones.
    """
    with psycopg.connect(superuser_url, autocommit=True) as superuser:
        superuser.execute("alter system set wal_init_zero = off")
        superuser.execute("select pg_reload_conf()")
        (slots,) = superuser.execute("select current_setting('max_connections')::integer").fetchone() or (0,)
    for _ in range(min(slots, most_slots)):
        with psycopg.connect(superuser_url, autocommit=True) as session:
            session.execute("create temporary table first (id integer)")
