"""One organisation's refresh with a database role for each organisation, and with one role for all.

It is the product's whole pipeline with real dbt, in this process, on two databases of one Postgres that hold the same
sample platform.
"""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import psutil
import psycopg

from benchmarks.figures import Figure, Target
from benchmarks.services import BenchmarkFailed, pretend_shared_models
from benchmarks.turns import Turns
from kiket_worker.contract import RefreshMessage
from kiket_worker.dbt.engine import Cancellation
from kiket_worker.dev import environment, postgres, sample
from kiket_worker.dev.secrets import secrets_of
from kiket_worker.ledger import runs
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.outbox import Waiting
from kiket_worker.ledger.runs import Status
from kiket_worker.refresh.pipeline import refresh
from kiket_worker.refresh.requests import accept
from kiket_worker.refresh.services import Services, open_services
from kiket_worker.settings import Settings
from kiket_worker.telemetry.logs import silence_logs

ORGANIZATION = "acme"

_DBT = Path(sys.executable).parent / "dbt"
_SHARED_LOGIN = "bench_shared"
# What `KIKET_ISOLATION=shared` needs of its one login (docs/isolation.md), with a password hashed by the server.
_GRANT_SHARED = """
create role {login} login password '{password}';
grant create, temporary, connect on database {database} to {login};
grant usage on schema public, kiket_analytics, analytics_shared to {login};
grant select on all tables in schema public, analytics_shared to {login};
grant all on all tables in schema kiket_analytics to {login};
"""


@dataclass(frozen=True)
class Cost:
    """What a refresh has taken, in seconds: on the clock, and of all processes of client and server."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Side:
    """An installation that refreshes. `postmaster` is the first process of its Postgres."""

    name: str
    services: Services
    postmaster: psutil.Process

    def refresh(self) -> Cost:
        """Refresh the organisation, and give what it cost."""
        began, cpu = time.perf_counter(), self.cpu_seconds()
        self.refresh_of(ORGANIZATION)
        return Cost(time.perf_counter() - began, self.cpu_seconds() - cpu)

    def refresh_of(self, slug: str) -> None:
        """Refresh an organisation. Raises `BenchmarkFailed` where that does not succeed."""
        run_id = accept(self.services.database, RefreshMessage(version=1, organization=slug)).run_id
        status = refresh(run_id, self.services, Cancellation())
        if status is not Status.SUCCEEDED:
            raise BenchmarkFailed(f"a refresh {self.name} did not succeed: {self._error(run_id)}")

    def cpu_seconds(self) -> float:
        """Of client and server."""
        return self.client_seconds() + self.server_seconds()

    def client_seconds(self) -> float:
        """CPU of this process and its ended children."""
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in used)

    def server_seconds(self) -> float:
        """CPU of all processes of Postgres, those that have ended included."""
        return server_seconds(self.postmaster)

    def _error(self, run_id: UUID) -> str:
        return str(runs.get(self.services.database, run_id).error_message)


def measure(folder: Path, admin_url: str, *, pairs: int, short: bool) -> list[Figure]:
    """Both sides in turns, `pairs` times; in full form after a refresh of each that is not counted."""
    silence_logs()
    specs = sample.tiny() if short else sample.demo()
    with _sides(folder, admin_url, specs) as (roles, shared):
        costs: dict[str, list[Cost]] = {roles.name: [], shared.name: []}
        for pair in range(-1 if not short else 0, pairs):
            for side in (roles, shared) if pair % 2 else (shared, roles):
                cost = side.refresh()
                if pair >= 0:
                    costs[side.name].append(cost)
    issues = next(spec.issues for spec in specs if spec.slug == ORGANIZATION)
    how = (
        f"refreshes of one organisation of the sample platform ({issues} issues) through the whole pipeline with real"
        f" dbt, {'the first ones' if short else 'incremental ones'}, KIKET_ISOLATION=roles against shared; the shared"
        " models are there already"
    )
    on_both = [costs[roles.name], costs[shared.name]]
    walls, cpus = ([[getattr(cost, of) for cost in side] for side in on_both] for of in ("wall", "cpu"))
    return [
        Turns(*walls).figure("refresh_wall_ratio", how, Target("<=", 1.1)),
        Turns(*cpus).figure(
            "refresh_cpu_ratio",
            f"CPU of client (resource usage, dbt included) and server (/proc, ended backends included) for {how}",
            Target("<=", 1.1),
        ),
    ]


@contextmanager
def _sides(folder: Path, admin_url: str, specs: tuple[sample.OrganizationSpec, ...]) -> Iterator[tuple[Side, Side]]:
    environment.load_platform(admin_url, "bench_sample", specs, now=datetime.now(UTC))
    secrets = secrets_of(folder)
    with ExitStack() as stack:

        def side(name: str, url: str, **variables: str) -> Side:
            settings = Settings.model_validate(
                {
                    "DATABASE_URL": url,
                    "RABBITMQ_URL": "memory://",
                    "ARTIFACTS_URL": (folder / f"artifacts-{name}").as_uri(),
                    "KIKET_DBT_EXECUTABLE": str(_DBT),
                    "KIKET_ISOLATION": name,
                }
                | variables
            )
            database = stack.enter_context(Database(url))
            return Side(name, open_services(settings, database, publish_nowhere), postmaster_of(folder))

        url = postgres.create_database(admin_url, "bench_roles", template="bench_sample")
        own_url = environment.set_up_roles(url, secrets)
        with psycopg.connect(url) as superuser:
            pretend_shared_models(superuser)
        roles = side("roles", own_url, KIKET_TENANT_KEYS=secrets.tenant_keys)

        url = postgres.create_database(admin_url, "bench_shared", template="bench_sample")
        with psycopg.connect(url) as superuser:
            pretend_shared_models(superuser)
            superuser.execute(
                _GRANT_SHARED.format(
                    login=_SHARED_LOGIN, password=secrets.ledger_password, database="bench_shared"
                ).encode()
            )
        shared_url = url.replace("//postgres@", f"//{_SHARED_LOGIN}:{secrets.ledger_password}@", 1)
        yield roles, side("shared", shared_url)


def postmaster_of(folder: Path) -> psutil.Process:
    """The first process of the Postgres that runs in a folder."""
    return psutil.Process(int((folder / "postgres" / "data" / "postmaster.pid").read_text().split("\n", 1)[0]))


def server_seconds(postmaster: psutil.Process) -> float:
    """CPU of all processes of a Postgres, those that have ended included."""
    of_postmaster = postmaster.cpu_times()
    seconds = of_postmaster.children_user + of_postmaster.children_system
    for process in [postmaster, *postmaster.children()]:
        try:
            used = process.cpu_times()
        except psutil.NoSuchProcess:  # Ended meanwhile: the postmaster has counted it, or will.
            continue
        seconds += used.user + used.system
    return seconds


def publish_nowhere(_: Waiting) -> None:
    """For services that execute their runs themselves."""
