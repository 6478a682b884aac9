"""A rolling deploy: the release before goes on while the ledger is migrated, and after; the new one waits for that.

`tests/previous_release/` has that release's package, kept by `scripts/keep-release`. It runs with this release's
dependencies.
"""

import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

import kiket_worker
from kiket_worker.dev import platform, postgres, sample
from kiket_worker.dev.secrets import LEDGER_ROLE
from tests.support.tenants import SECRETS

ROOT = Path(kiket_worker.__file__).parent.parent
ORGANIZATIONS = {"acme", "blue-harbor", "north_star", "quiet-orchard"}


def migrations(package: Path) -> set[str]:
    return {path.stem for path in (package / "ledger" / "migrations").glob("*.sql")}


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package of the release before."""
    folder = tmp_path_factory.mktemp("previous")
    (wheel,) = (ROOT / "tests" / "previous_release").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@dataclass
class Release:
    """The commands of the release before, in the environment of an installation."""

    installation: Any
    folder: Path

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(arguments),
            env=self._environment(variables),
            cwd=self.installation.folder,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.installation.folder / f"{arguments[0]}.log").open("ab") as log:
            process = subprocess.Popen(
                self._command(arguments),
                env=self._environment({}),
                cwd=self.installation.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.installation.started.append(process)
        return process

    @staticmethod
    def _command(arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "kiket_worker", *arguments]

    def _environment(self, variables: dict[str, str]) -> dict[str, str]:
        own: dict[str, str] = self.installation._environment(variables, ())
        return own | {"PYTHONPATH": str(self.folder)}


@pytest.fixture
def before(cluster: Any, previous: Path) -> Release:
    return Release(cluster, previous)


@pytest.fixture
def unmigrated(cluster: Any, postgres_url: str, before: Release) -> Iterator[str]:
    """The superuser's URL of a database that the release before has set up, and that `cluster` uses."""
    name = "previous_release"
    url = postgres.create_database(postgres_url, name)
    with psycopg.connect(url) as connection:
        platform.create_tables(connection)
        platform.load(connection, sample.tiny(), seed=1, now=datetime(2026, 6, 15, 12, tzinfo=UTC))
    done = before.run("migrate", "--roles", DATABASE_URL=url)
    assert done.returncode == 0, done.stderr
    with psycopg.connect(url) as connection:
        connection.execute(
            "insert into kiket_analytics.analytics_settings (organization_id, enabled)"
            " select id, true from public.organizations"
        )
    # The login has its password since `cluster` has set up roles for a database of its own on this server.
    cluster.variables["DATABASE_URL"] = url.replace("//postgres@", f"//{LEDGER_ROLE}:{SECRETS.ledger_password}@", 1)
    yield url
    cluster.end()
    postgres.drop_database(postgres_url, name)


def succeeded(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "select organization_slug from kiket_analytics.runs where status = 'succeeded'"
        ).fetchall()
    return {slug for (slug,) in rows}


def test_the_release_before_is_another_one(previous: Path) -> None:
    kept = migrations(previous / "kiket_worker")
    assert kept
    assert kept <= migrations(ROOT / "kiket_worker"), "a migration that was released stays as it is"
    for name in kept:
        path = Path("ledger") / "migrations" / f"{name}.sql"
        assert (previous / "kiket_worker" / path).read_bytes() == (ROOT / "kiket_worker" / path).read_bytes()


def test_the_release_before_works_on_the_newest_ledger(
    before: Release, cluster: Any, sample_database: Any, until: Callable[..., Any]
) -> None:
    worker, ticker = before.start("worker"), before.start("ticker")
    until(lambda: succeeded(sample_database.url) == ORGANIZATIONS, "every organisation is refreshed", 120)
    assert len(sample_database.rows("select from kiket_analytics.usage_events")) == 2 * len(ORGANIZATIONS)
    asked = before.run("refresh", "acme", "--wait", "--json")
    assert asked.returncode == 0, asked.stderr
    for arguments in (["runs", "list"], ["settings", "list"], ["usage", "acme"], ["tenants", "list"]):
        done = before.run(*arguments)
        assert done.returncode == 0, (arguments, done.stderr)
    # The new one works beside it, on the same queues and leases.
    cluster.start("worker")
    both = cluster.run("refresh", "blue-harbor", "--wait", "--json")
    assert both.document["status"] == "succeeded"
    for process in (worker, ticker):
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_a_ledger_is_migrated_while_the_release_before_refreshes(
    before: Release, cluster: Any, unmigrated: str, until: Callable[..., Any]
) -> None:
    hold = cluster.folder / "hold"
    hold.touch()
    before.start("worker")
    before.start("ticker")

    def goes_on() -> bool:
        with psycopg.connect(unmigrated) as connection:
            found = connection.execute("select from kiket_analytics.runs where status = 'running'").fetchall()
        return len(found) == 2

    until(goes_on, "two refreshes are in hand", 120)
    missing = migrations(ROOT / "kiket_worker") - migrations(before.folder / "kiket_worker")
    early = cluster.run("worker")
    if missing:
        early.refused(1, "the ledger lacks", "kiket-worker migrate")
    done = cluster.run("migrate", "--roles", "--json", DATABASE_URL=unmigrated)
    assert done.code == 0, done.err
    assert set(done.document["applied"]) == missing
    hold.unlink()
    until(lambda: succeeded(unmigrated) == ORGANIZATIONS, "every organisation is refreshed", 120)
    events = [line["event"] for line in cluster.log("worker")]
    assert not {"run.failed", "run.retried", "worker.failed", "lease.lost"} & set(events)


def test_a_new_worker_refuses_an_older_ledger(cluster: Any, sample_database: Any) -> None:
    newest = max(migrations(ROOT / "kiket_worker"))
    sample_database.execute("delete from kiket_analytics._yoyo_migration where migration_id = %s", newest)
    for command in ("worker", "ticker"):
        cluster.run(command).refused(1, f"the ledger lacks {newest}", "kiket-worker migrate")
