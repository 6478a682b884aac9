"""The real services that tests stand on: a Postgres and a RabbitMQ for each test process, started when first needed.

Roles belong to a whole Postgres and not to one database, and queues to a whole RabbitMQ, so that no two processes share
one. The session's own process stops what was started. Databases are clones of templates, one for each test that asks.
"""

import contextlib
import gc
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import psutil
import psycopg
import pytest
from moto.server import ThreadedMotoServer
from psycopg.rows import DictRow, dict_row

from kiket_worker.dev import environment, platform, postgres, rabbitmq, sample
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.migrate import migrate
from kiket_worker.telemetry.logs import silence_logs
from tests.support.tenants import SECRETS

_FOLDER = "KIKET_TEST_FOLDER"

# The moment at which the sample data ends.
SAMPLE_NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        # Short, because a unix socket's path is: not below pytest's own folder.
        os.environ[_FOLDER] = tempfile.mkdtemp(prefix="kiket-", dir=_memory_or_disk())
    for variable in ("DATABASE_URL", "RABBITMQ_URL", "ARTIFACTS_URL"):
        os.environ.pop(variable, None)


def pytest_collection(session: pytest.Session) -> None:
    gc.disable()  # What is collected stays: there is no garbage to be looked for in it, now or later.


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.freeze()
    gc.enable()


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        folder = Path(os.environ.pop(_FOLDER))
        for node in folder.glob("rabbitmq-*"):
            rabbitmq.stop(node)
        for server in folder.glob("postgres-*"):
            postgres.stop(server)
        shutil.rmtree(folder)


def _memory_or_disk() -> Path:
    """Where services keep their files: a clone of a template is made four times as fast where no disk is waited for."""
    memory = Path("/dev/shm")
    is_large = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 6 * 2**30
    return memory if is_large else Path("/tmp")


@pytest.fixture(autouse=True)
def _quiet() -> None:
    silence_logs()


@dataclass(frozen=True)
class TestDatabase:
    """A database of a test's own."""

    __test__ = False

    url: str
    roles: "Roles | None" = None

    def connect(self) -> psycopg.Connection[DictRow]:
        """A superuser's connection, each statement committed at once."""
        return psycopg.connect(self.url, autocommit=True, row_factory=dict_row)

    def rows(self, query: str, *parameters: object) -> list[DictRow]:
        with self.connect() as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def execute(self, query: str, *parameters: object) -> None:
        with self.connect() as connection:
            connection.execute(query.encode(), parameters)

    def with_roles(self) -> str:
        """Set up roles and gates, and give the URL of the worker's own login."""
        return self.roles.lend(self) if self.roles else environment.set_up_roles(self.url, SECRETS)


# What roles of the installation are, in the whole server: who they are and may become, their settings, parameters.
_ROLES_OF_THE_SERVER = """
with ours as (select * from pg_authid where rolname !~ '^analytics_(org|ro)_')
select md5(concat_ws(
    ' ',
    (select string_agg(ours::text, ' ' order by oid) from ours),
    (
        select string_agg(concat_ws(' ', roleid, member, admin_option, inherit_option, set_option), ',' order by oid)
        from pg_auth_members where roleid in (select oid from ours) and member in (select oid from ours)
    ),
    (
        select string_agg(found::text, ' ' order by setrole) from pg_db_role_setting as found
        where setdatabase = 0 and setrole in (select oid from ours)
    ),
    (select string_agg(parname || paracl::text, ' ' order by parname) from pg_parameter_acl)
)) as digest
"""
# Rights on a database itself, which are not cloned with it.
_LEND = """
do $$
declare
    granted record;
begin
    execute format('revoke all on database %I from public', current_database());
    for granted in
        select string_agg(privilege_type, ', ') as privileges, grantee::regrole as grantee
        from pg_database, aclexplode(datacl)
        where datname = '{template}' and grantee <> datdba
        group by grantee
    loop
        execute format(
            'grant %s on database %I to %s', granted.privileges, current_database(), granted.grantee
        );
    end loop;
end
$$
"""


@dataclass
class Roles:
    """Roles and gates that were set up in a template: a clone needs no more than rights on the database itself.

    That is a tenth of the computing of setting them up. Where a test has changed what roles are in the whole server,
    they are set up again.
    """

    template: str
    ledger_url: str
    digest: str

    @classmethod
    def set_up(cls, database: TestDatabase) -> "Roles":
        ledger_url = environment.set_up_roles(database.url, SECRETS)
        (found,) = database.rows(_ROLES_OF_THE_SERVER)
        return cls(urlsplit(database.url).path[1:], ledger_url, found["digest"])

    def lend(self, database: TestDatabase) -> str:
        with database.connect() as connection:
            found = connection.execute(_ROLES_OF_THE_SERVER.encode()).fetchall()
            if found == [{"digest": self.digest}]:
                connection.execute(_LEND.format(template=self.template).encode())
                return urlsplit(self.ledger_url)._replace(path=urlsplit(database.url).path).geturl()
        again = Roles.set_up(database)
        self.digest = again.digest
        return again.ledger_url


@pytest.fixture(scope="session")
def service_folder() -> Path:
    return Path(os.environ[_FOLDER])


@pytest.fixture(scope="session")
def process_name() -> str:
    """What tells this test process from the others of the session."""
    return os.environ.get("PYTEST_XDIST_WORKER", "main")


@pytest.fixture(scope="session")
def postgres_folder(service_folder: Path, process_name: str) -> Path:
    """The folder of this test process's Postgres."""
    return service_folder / f"postgres-{process_name}"


@pytest.fixture(scope="session")
def postgres_url(postgres_folder: Path) -> str:
    """The superuser's URL of this test process's Postgres."""
    return postgres.start(postgres_folder)


@pytest.fixture(scope="session")
def rabbitmq_folder(service_folder: Path, process_name: str) -> Path:
    """The folder of this test process's RabbitMQ node."""
    return service_folder / f"rabbitmq-{process_name}"


@dataclass
class Node:
    """A RabbitMQ node, and its process since it was last started: to look for that among all takes a while."""

    folder: Path
    url: str = ""
    process: psutil.Process | None = None

    def running(self) -> str:
        if self.process is None or not self.process.is_running() or not _listens(self.url):
            self.url = rabbitmq.start(self.folder)
            self.process = next(found for found in rabbitmq._node(self.folder) if found.name() == "beam.smp")
        return self.url


def _listens(url: str) -> bool:
    parts = urlsplit(url)
    with contextlib.suppress(OSError), socket.create_connection((parts.hostname, parts.port), timeout=5):
        return True
    return False


@pytest.fixture(scope="session")
def _node(rabbitmq_folder: Path) -> Node:
    return Node(rabbitmq_folder)


@pytest.fixture
def rabbitmq_url(_node: Node) -> str:
    """The URL of this test process's RabbitMQ node, the same for all tests; started again if a test left it dead."""
    return _node.running()


@pytest.fixture(scope="session")
def s3_bucket() -> Iterator[str]:
    """A bucket on an S3 server of this process, reached by the `AWS_*` variables that are set for the session."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="kiket-artifacts")
        yield "kiket-artifacts"
    server.stop()


def _fill_empty(admin_url: str, name: str) -> None:
    url = postgres.create_database(admin_url, name)
    with psycopg.connect(url) as connection:
        platform.create_tables(connection)
    migrate(url)


@pytest.fixture(scope="session")
def bare_template(postgres_url: str) -> str:
    _fill_empty(postgres_url, "bare")
    return "bare"


@pytest.fixture(scope="session")
def sample_template(postgres_url: str) -> str:
    environment.load_platform(postgres_url, "sample", sample.tiny(), now=SAMPLE_NOW)
    return "sample"


@pytest.fixture(scope="session")
def sample_roles(postgres_url: str, sample_template: str) -> Roles:
    """Another template, in which roles are set up as well."""
    return Roles.set_up(TestDatabase(postgres.create_database(postgres_url, "sample_with_roles", sample_template)))


@dataclass
class Server:
    """This test process's Postgres, and the connection by which its databases come and go."""

    url: str
    connection: psycopg.Connection

    def clone(self, template: str | None, roles: Roles | None = None) -> Iterator[TestDatabase]:
        name = f"test_{uuid.uuid4().hex[:12]}"
        # To copy files is half the computing of the default, which writes each page to the log too.
        copied = f" template {template} strategy file_copy" if template else ""
        self._execute(f"create database {name}{copied}")
        yield TestDatabase(urlsplit(self.url)._replace(path=f"/{name}").geturl(), roles)
        self._execute(f"drop database if exists {name} with (force)")

    def _execute(self, statement: str) -> None:
        try:
            self.connection.execute(statement.encode())
        except psycopg.OperationalError:
            if not self.connection.closed:
                raise
            # A test has had the server end every session.
            self.connection = psycopg.connect(self.url, autocommit=True)
            self.connection.execute(statement.encode())


@pytest.fixture(scope="session")
def server(postgres_url: str) -> Iterator[Server]:
    made = Server(postgres_url, psycopg.connect(postgres_url, autocommit=True))
    yield made
    made.connection.close()


@pytest.fixture
def empty_database(server: Server) -> Iterator[TestDatabase]:
    """A database with nothing in it."""
    yield from server.clone(None)


@pytest.fixture
def database(server: Server, bare_template: str) -> Iterator[TestDatabase]:
    """The platform's tables, empty, and the ledger."""
    yield from server.clone(bare_template)


@pytest.fixture(scope="module")
def module_database(server: Server, bare_template: str) -> Iterator[TestDatabase]:
    """The same for all tests of a module."""
    yield from server.clone(bare_template)


@pytest.fixture
def sample_database(request: pytest.FixtureRequest, server: Server, sample_template: str) -> Iterator[TestDatabase]:
    """The four organisations of `sample.tiny()`, all opted in and never refreshed, and the ledger.

    For tests of an installation, which begins by setting up roles, it is one where that is done but for the last step.
    """
    if {"installation", "site"}.isdisjoint(request.fixturenames):
        yield from server.clone(sample_template)
    else:
        roles: Roles = request.getfixturevalue("sample_roles")
        yield from server.clone(roles.template, roles)


@pytest.fixture(scope="module")
def sample_databases(server: Server, sample_template: str) -> Iterator[tuple[TestDatabase, TestDatabase]]:
    """Two such databases for all tests of a module."""
    first, second = server.clone(sample_template), server.clone(sample_template)
    yield next(first), next(second)
    for clone in (first, second):
        next(clone, None)


@pytest.fixture
def ledger(sample_database: TestDatabase) -> Iterator[Database]:
    """The product's own way to the ledger of `sample_database`."""
    with Database(sample_database.url, max_connections=8) as opened:
        yield opened
