"""A process that is killed while it archives: nothing that it leaves looks complete, and prune finds all of it."""

import http.client
import http.server
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from kiket_worker.artifacts.archive import archive
from kiket_worker.artifacts.directory import DirectoryStore
from kiket_worker.artifacts.reading import faults
from kiket_worker.artifacts.retention import What, prune
from kiket_worker.artifacts.store import Store, open_store
from kiket_worker.ledger.database import Database
from tests.support.dbt_scripts import until

PREFIX = f"acme/{UUID(int=1)}/1"
MIB = 1024 * 1024

ARCHIVE = """
import pathlib, sys
from kiket_worker.artifacts.archive import archive
from kiket_worker.artifacts.store import open_store
url, prefix, *paths = sys.argv[1:]
archive(open_store(url), prefix, {pathlib.Path(path).name: pathlib.Path(path) for path in paths}, {})
"""
PUT = """
import pathlib, sys
from kiket_worker.artifacts.store import open_store
url, prefix, path = sys.argv[1:]
open_store(url).put(f"{prefix}/c.json", pathlib.Path(path), sha256="00", content_type="text/plain")
"""


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a script with the arguments; whatever a test leaves is killed."""
    processes = []

    def start(script: str, *arguments: object, **variables: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)], env=os.environ | variables
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def killed(process: subprocess.Popen[bytes]) -> None:
    assert process.poll() is None, "it was to be killed in the middle"
    process.send_signal(signal.SIGKILL)
    process.wait(20)


def is_incomplete(store: Store) -> bool:
    return list(faults(store, PREFIX)) == [f"{PREFIX} has no index"]


def pruned(store: Store, ledger: Database, *, days: float) -> set[What]:
    now = datetime.now(UTC) + timedelta(days=days)
    return {one.what for one in prune(store, ledger, keep_days=30, now=now)}


def test_in_a_directory(started: Callable[..., subprocess.Popen[bytes]], ledger: Database, tmp_path: Path) -> None:
    root, first, pipe = tmp_path / "store", tmp_path / "a.json", tmp_path / "b.json"
    store = DirectoryStore(root)
    first.write_text("{}")
    os.mkfifo(pipe)
    process = started(ARCHIVE, root.as_uri(), PREFIX, first, pipe)
    with pipe.open("wb", buffering=0) as source:
        source.write(b"half")
        until(lambda: list(store.list(PREFIX)), "the first file to be stored")
        killed(process)
    process = started(PUT, root.as_uri(), PREFIX, pipe)
    with pipe.open("wb", buffering=0) as source:
        # More than a pipe holds: when this returns, the writer has begun to copy.
        source.write(os.urandom(MIB))
        killed(process)

    assert is_incomplete(store)
    assert [file.key for file in store.list("")] == [f"{PREFIX}/a.json"]
    assert len(list(store.unfinished())) == 1
    assert pruned(store, ledger, days=0.9) == set()
    assert pruned(store, ledger, days=1.1) == {What.LEFTOVER, What.UPLOAD}
    assert [path for path in root.rglob("*") if path.is_file()] == []
    archive(store, PREFIX, {"a.json": first}, {})
    assert list(faults(store, PREFIX)) == []


class Gate(http.server.ThreadingHTTPServer):
    """Hands requests on to an S3 server, and answers nothing to those whose path has a word in it."""

    daemon_threads = True

    def __init__(self, server: str, held_word: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = urlsplit(server).netloc
        self.held_word = held_word
        self.holds = threading.Event()
        self.opened = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.opened.set()
        self.shutdown()
        self.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Gate

    def do_PUT(self) -> None:
        if self.headers.get("Expect"):
            self.send_response_only(100)
            self.end_headers()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.held_word in self.path:
            self.server.holds.set()
            self.server.opened.wait()
            self.close_connection = True
            return
        connection = http.client.HTTPConnection(self.server.address, timeout=30)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"connection", "content-length", "transfer-encoding"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        connection.close()

    def do_POST(self) -> None:
        self.do_PUT()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("held_word", "left", "unfinished"),
    [("partNumber=2", ["a.json"], 1), ("index.json", ["a.json", "b.json"], 0)],
    ids=["in the middle of a large file", "before the index"],
)
def test_in_a_bucket(
    started: Callable[..., subprocess.Popen[bytes]],
    ledger: Database,
    s3_bucket: str,
    tmp_path: Path,
    held_word: str,
    left: list[str],
    unfinished: int,
) -> None:
    files = {name: tmp_path / name for name in ("a.json", "b.json")}
    files["a.json"].write_text("{}")
    files["b.json"].write_bytes(os.urandom(20 * MIB))
    url = f"s3://{s3_bucket}/killed-{tmp_path.name}"
    store = open_store(url)
    gate = Gate(os.environ["AWS_ENDPOINT_URL_S3"], held_word)
    try:
        endpoint = f"http://127.0.0.1:{gate.server_port}"
        process = started(ARCHIVE, url, PREFIX, *files.values(), AWS_ENDPOINT_URL_S3=endpoint)
        assert gate.holds.wait(60)
        until(lambda: len(list(store.list(""))) == len(left), "the other files to be stored")
        killed(process)
    finally:
        gate.close()

    assert is_incomplete(store)
    assert [file.key for file in store.list("")] == [f"{PREFIX}/{name}" for name in left]
    assert len(list(store.unfinished())) == unfinished
    # moto gives every unfinished upload the year 2010, so how long one is left alone is tested with the directory.
    assert pruned(store, ledger, days=1.1) == {What.LEFTOVER} | ({What.UPLOAD} if unfinished else set())
    assert list(store.list("")) == []
    assert list(store.unfinished()) == []
    archive(store, PREFIX, files, {})
    assert list(faults(store, PREFIX)) == []
