"""Installations with roles, refreshes with a stand-in for dbt, consoles, and S3 servers that refuse."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kiket_worker.definitions.trial import trial
from kiket_worker.definitions.trial.trial import Trials
from kiket_worker.ledger.database import Database
from kiket_worker.refresh import recordings
from tests.support import warm_dbt
from tests.support.console import Console, Served
from tests.support.definitions import trials_of
from tests.support.installations import Installation
from tests.support.refreshes import Refreshes
from tests.support.s3_server import S3Server, use_endpoint


@pytest.fixture(scope="session", autouse=True)
def _warm_recorders() -> Iterator[None]:
    """Where dbt is recorded or tried, its process is forked from one that has imported it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recordings, "run_child", warm_dbt.run_warm)
        patch.setattr(trial, "run_child", warm_dbt.run_warm)
        yield


@pytest.fixture
def trials(installation: Installation) -> Trials:
    """Where the tests' overlays are tried: the sample platform with roles."""
    return trials_of(installation)


@pytest.fixture
def installation(sample_database: Any) -> Iterator[Installation]:
    """The sample platform with roles and gates; no organisation is provisioned."""
    with Installation.of(sample_database) as made:
        yield made


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., S3Server]]:
    """Start a server that answers everything so, and let S3 stores find it."""
    servers = []

    def start(status: int, code: str, *, words: str = "", headers: dict[str, str] | None = None) -> S3Server:
        server = S3Server(status, code, words, headers or {})
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        use_endpoint(monkeypatch, f"http://127.0.0.1:{server.server_port}")
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def refreshes(sample_database: Any, ledger: Database, tmp_path: Path) -> Refreshes:
    """Refreshes of the sample platform by a superuser, with a stand-in for dbt."""
    return Refreshes.prepare(sample_database.url, ledger, tmp_path)


@pytest.fixture
def console(ledger: Database, tmp_path: Path) -> Console:
    """What a console is made of, over a ledger of the test's own."""
    return Console(ledger, tmp_path)


@pytest.fixture
def served(console: Console) -> Iterator[Served]:
    """The same, which answers over HTTP."""
    with console.serving() as served:
        yield served
