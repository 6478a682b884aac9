"""What isolation is measured on: a database with the platform's raw tables, organisations, and a role for each.

The organisations are called `org-00001` and on, and are provisioned as the product does it: by its `Provisioner`, as
the login of the ledger.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from benchmarks.services import BenchmarkFailed
from kiket_worker.dev import environment, platform, postgres
from kiket_worker.dev.secrets import secrets_of
from kiket_worker.ledger.database import Connection, Database
from kiket_worker.settings import tenant_keys
from kiket_worker.telemetry.logs import silence_logs
from kiket_worker.tenants.keys import TenantKeys
from kiket_worker.tenants.login import Login
from kiket_worker.tenants.provisioning import Candidate, Limits, Provisioner
from kiket_worker.tenants.schema import schema_name

# The defaults of the KIKET_TENANT_* variables.
LIMITS = Limits(connections=8, statement_seconds=900, idle_seconds=60, temp_megabytes=2048, quota_megabytes=10_240)

# Every tenth issue is the first organisation's; the others are spread over the rest of those that have any. What a row
# is like follows from a hash of its number: the same every time, and in no order.
_ISSUES = """
with numbered as (
    select
        number,
        case when number %% 10 = 0 then 1 else 2 + number %% (%(organizations)s - 1) end as organization_id,
        hashint4(number) & 2147483647 as hash
    from generate_series(1, %(issues)s) as number
)
insert into public.issues (
    id, organization_id, project_id, issue_type, title, status, priority, story_points, created_at, completed_at,
    updated_at
)
select
    number,
    organization_id,
    100 * organization_id + 1 + hash %% 20,
    (array['story', 'task', 'bug'])[1 + hash %% 3],
    'Issue number ' || number,
    case when hash %% 4 = 0 then 'todo' else 'done' end,
    (array['low', 'medium', 'high', 'urgent'])[1 + hash %% 7 %% 4],
    hash %% 11 %% 9,
    now() - interval '600 days',
    case when hash %% 4 > 0 then now() - make_interval(mins => hash / 4 %% (548 * 24 * 60)) end,
    now()
from numbered
"""
_PROJECTS = """
insert into public.projects (id, organization_id, key, name, archived, created_at)
select 100 * organization + project, organization, 'P' || project, 'Project ' || project, false, now()
from generate_series(1, %(organizations)s) as organization, generate_series(1, 20) as project
"""


@dataclass(frozen=True)
class Tenants:
    """A database with organisations. `url` is the superuser's, `own_url` that of the ledger's login."""

    url: str
    own_url: str
    keys: TenantKeys
    provisioner: Provisioner

    def provision(self, connection: Connection, number: int) -> None:
        """Make or mend one organisation's schema and roles, in a transaction of its own."""
        with connection.transaction():
            self.provisioner.provision(connection, candidate(number))

    def expect_no_drift(self, connection: Connection, number: int) -> None:
        """Ask in what an organisation differs from what provisioning makes. Raises `BenchmarkFailed` if in anything."""
        with connection.transaction():
            if drift := self.provisioner.drift(connection, candidate(number)):
                raise BenchmarkFailed(f"{candidate(number).slug} differs in {', '.join(drift)}")

    def provision_all(self, first: int, last: int) -> None:
        """Make the organisations from one number to another, many in a transaction."""
        silence_logs()
        with Database(self.own_url) as database:
            for batch in self.provisioner.provision_all(database, [candidate(n) for n in range(first, last + 1)]):
                for fault in (provisioned.fault for provisioned in batch if provisioned.fault):
                    raise fault

    def load_issues(self, *, issues: int, organizations: int) -> None:
        """Fill the raw tables: a tenth of the issues is the first organisation's, each has twenty projects."""
        with psycopg.connect(self.url) as connection:
            # References need no check here, and checking them is most of the work.
            connection.execute("set local session_replication_role = replica")
            sizes = {"issues": issues, "organizations": organizations}
            connection.execute(_PROJECTS, sizes)
            connection.execute(_ISSUES, sizes)

    def analyze(self) -> None:
        """What autovacuum would do in a minute: statistics of the raw tables and of the catalogs."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("vacuum analyze")

    def login(self, number: int) -> Login:
        """The role of an organisation."""
        role = schema_name(candidate(number).slug)
        return Login(role, self.keys.password(role, self.keys.current))

    def create_reader(self, role: str, *, server_hashes: bool) -> Login:
        """A role that may read the raw tables as they are, as one login for all organisations may.

        Its password is hashed by the server as Postgres does it (4,096 iterations), or once as a tenant's.
        """
        login = Login(role, self.keys.password(role, self.keys.current))
        stored = login.password if server_hashes else self.keys.verifier(role, self.keys.current)
        with psycopg.connect(self.url) as connection:
            name = sql.Identifier(role)
            connection.execute(sql.SQL("create role {} login password {}").format(name, sql.Literal(stored)))
            connection.execute(sql.SQL("grant usage on schema public to {}").format(name))
            connection.execute(sql.SQL("grant select on all tables in schema public to {}").format(name))
            database = sql.Identifier(connection.info.dbname)
            connection.execute(sql.SQL("grant connect on database {} to {}").format(database, name))
        return login

    def connect(self, login: Login) -> Connection:
        """A session that commits each statement at once and prepares none, as dbt's sends each once."""
        address = {name: conninfo_to_dict(self.url)[name] for name in ("host", "dbname")}
        return psycopg.connect(
            make_conninfo("", **address, user=login.role, password=login.password),
            autocommit=True,
            row_factory=dict_row,
            prepare_threshold=None,
        )


def candidate(number: int) -> Candidate:
    """The organisation of a number."""
    return Candidate(number, f"org-{number:05d}")


def create(folder: Path, admin_url: str, *, organizations: int) -> Tenants:
    """A database with organisations of which none is provisioned. Their keys are kept in `folder`."""
    url = postgres.create_database(admin_url, "bench_tenants")
    with psycopg.connect(url) as connection:
        platform.create_tables(connection)
        connection.execute(
            "insert into public.organizations (id, slug, name, plan, created_at)"
            " select number, 'org-' || lpad(number::text, 5, '0'), 'Organisation ' || number, 'business', now()"
            " from generate_series(1, %s) as number",
            [organizations],
        )
    secrets = secrets_of(folder)
    keys = TenantKeys(tenant_keys(secrets.tenant_keys))
    return Tenants(url, environment.set_up_roles(url, secrets), keys, Provisioner(keys, LIMITS))


@contextmanager
def ledger_session(tenants: Tenants) -> Iterator[Connection]:
    """A session of the ledger's login, which provisions."""
    with psycopg.connect(tenants.own_url, row_factory=dict_row) as connection:
        yield connection
