"""The embedded Postgres and RabbitMQ: the same promises, tried on both."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pika
import psutil
import psycopg
import pytest

from kiket_worker.dev import postgres, rabbitmq
from kiket_worker.dev.service import DevServiceFailed, alive, until

CALLER = """
import sys
from importlib import import_module
from pathlib import Path
print(import_module(sys.argv[1]).start(Path(sys.argv[2])), flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Service:
    """One of the services with what a test does to it: through its clients, its data, its processes."""

    module: ModuleType
    directory: Path
    server_name: str
    write: Callable[[str], None]
    read: Callable[[str], str]
    crash: Callable[[Path], None]

    def start(self) -> str:
        return str(self.module.start(self.directory))

    def stop(self) -> None:
        self.module.stop(self.directory)

    def call_start(self) -> subprocess.Popen[str]:
        """Another process that starts the service, prints its URL and stays; leader of its own process group."""
        return subprocess.Popen(
            [sys.executable, "-c", CALLER, self.module.__name__, str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def processes(self) -> list[psutil.Process]:
        """Everything that names the directory in its command line, environment or working directory."""
        name = str(self.directory)
        return [
            process
            for process in psutil.process_iter(["cmdline", "environ", "cwd", "name", "ppid"])
            if any(name in str(process.info[field]) for field in ("cmdline", "environ", "cwd")) and alive(process)
        ]

    def servers(self) -> list[int]:
        """Pids of the servers themselves, without their children."""
        parents = {
            process.pid: process.info["ppid"]
            for process in self.processes()
            if process.info["name"] == self.server_name
        }
        return [pid for pid, parent in parents.items() if parent not in parents]

    def addresses(self) -> set[str]:
        """Where the service listens for TCP connections."""
        connections = [connection for process in self.processes() for connection in process.net_connections("inet")]
        return {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}


def write_table(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("create table note as select 'kept' as text")


def read_table(url: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute("select text from note").fetchone()
    assert row is not None
    return str(row[0])


def kill_postmaster(directory: Path) -> None:
    os.kill(int((directory / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)


def write_queue(url: str) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.queue_declare("note", durable=True)
    channel.confirm_delivery()
    channel.basic_publish("", "note", b"kept", pika.BasicProperties(delivery_mode=2))
    channel.queue_declare("later", durable=True)
    connection.close()


def read_queue(url: str) -> str:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    _, _, body = connection.channel().basic_get("note")
    connection.close()
    return str(body, "utf-8")


def queue_is_on_disk(directory: Path) -> bool:
    """RabbitMQ syncs messages before it confirms them, and what queues there are only soon afterwards.

    In their order: where the later one is seen, nothing of the one before is missing.
    """
    logs = [*directory.rglob("LATEST.LOG"), *directory.rglob("rabbit_durable_queue.DC*")]
    return any(b"later" in log.read_bytes() for log in logs)


@pytest.fixture
def directory() -> Iterator[Path]:
    # Not tmp_path: a unix socket's path has about a hundred bytes at most.
    path = Path(tempfile.mkdtemp(prefix="kiket-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=["postgres", "rabbitmq"])
def service(request: pytest.FixtureRequest, directory: Path) -> Iterator[Service]:
    if request.param == "postgres":
        service = Service(postgres, directory, "postgres", write_table, read_table, kill_postmaster)
    else:
        service = Service(rabbitmq, directory, "beam.smp", write_queue, read_queue, rabbitmq.kill)
    yield service
    service.stop()


def test_two_processes_that_start_at_once_get_one_server_of_this_machine_and_later_ones_too(service: Service) -> None:
    callers = [service.call_start() for _ in range(2)]
    answers = {caller.communicate("")[0] for caller in callers}
    assert len(answers) == 1
    servers = service.servers()
    assert len(servers) == 1
    assert service.addresses() <= {"127.0.0.1", "::1"}

    url = service.start()
    assert answers == {f"{url}\n"}
    service.write(url)
    assert service.start() == url
    assert service.servers() == servers
    assert service.read(url) == "kept"


def test_a_killed_caller_leaves_the_server_which_comes_back_with_its_data_and_another_process_stops_it(
    service: Service,
) -> None:
    with service.call_start() as caller:
        assert caller.stdout is not None
        url = caller.stdout.readline().strip()
        # The whole group: what Ctrl-C in a terminal would hit.
        os.killpg(caller.pid, signal.SIGKILL)
    service.write(url)
    assert until(lambda: service.server_name == "postgres" or queue_is_on_disk(service.directory), 20)
    service.crash(service.directory)

    assert service.start() == url
    assert service.read(url) == "kept"

    service.stop()
    assert service.processes() == []
    service.stop()


def test_a_caller_killed_while_starting_does_not_keep_the_next_one_from_it(service: Service) -> None:
    with service.call_start() as caller:
        assert until(lambda: len(service.processes()) > 1, 20)
        os.killpg(caller.pid, signal.SIGKILL)

    url = service.start()
    service.write(url)
    assert service.read(url) == "kept"
    assert len(service.servers()) == 1


def test_a_directory_removed_under_a_running_server_gives_a_new_one(service: Service) -> None:
    service.start()
    shutil.rmtree(service.directory)

    service.write(service.start())
    assert len(service.servers()) == 1


def test_a_start_that_fails_shows_why_and_leaves_no_process(service: Service) -> None:
    (service.directory / "data").write_text("a file where a directory should be")

    with pytest.raises(DevServiceFailed, match=r"did not start(.|\n)*directory"):
        service.start()
    assert service.processes() == []


def test_stop_of_what_never_ran_leaves_no_trace(directory: Path) -> None:
    for module in (postgres, rabbitmq):
        module.stop(directory / "never")
    assert list(directory.iterdir()) == []


def test_postgres_starts_though_its_old_pid_belongs_to_another_program(directory: Path) -> None:
    url = postgres.start(directory)
    try:
        lock = directory / "data" / "postmaster.pid"
        recorded = lock.read_text()
        kill_postmaster(directory)
        first, rest = recorded.split("\n", 1)
        assert until(lambda: not psutil.pid_exists(int(first)) or not alive(psutil.Process(int(first))), 10)
        lock.write_text(f"{os.getpid()}\n{rest}")

        assert postgres.start(directory) == url
    finally:
        postgres.stop(directory)
    assert psutil.pid_exists(os.getpid())


def test_postgres_in_a_directory_with_a_long_path_is_reachable(directory: Path) -> None:
    long = directory / ("long" * 30)
    url = postgres.start(long)
    try:
        write_table(url)
        assert postgres.start(long) == url
    finally:
        postgres.stop(long)


def test_databases_are_copied_and_replaced_though_somebody_is_connected(directory: Path) -> None:
    admin_url = postgres.start(directory)
    try:
        template = postgres.create_database(admin_url, 'odd "name')
        write_table(template)
        copy = postgres.create_database(admin_url, "copy", template='odd "name')
        with psycopg.connect(copy):
            assert read_table(copy) == "kept"
            copy = postgres.create_database(admin_url, "copy")
        with pytest.raises(psycopg.errors.UndefinedTable):
            read_table(copy)

        postgres.drop_database(admin_url, "copy")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(copy)
        with pytest.raises(DevServiceFailed, match="no_such_template"):
            postgres.create_database(admin_url, "copy", template="no_such_template")
    finally:
        postgres.stop(directory)


def test_a_missing_rabbitmq_is_said_with_its_remedy(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(DevServiceFailed, match="scripts/install-debian"):
        rabbitmq.start(directory)
