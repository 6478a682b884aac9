"""A store that refuses, seen from a refresh: one clear error of its kind, tried again or not, and nothing charged."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from kiket_worker.artifacts.directory import DirectoryStore
from kiket_worker.artifacts.s3 import S3Store
from kiket_worker.artifacts.store import Store
from kiket_worker.dbt.engine import Cancellation
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.runs import Status
from kiket_worker.refresh.pipeline import refresh
from tests.support.refreshes import Refreshes
from tests.support.s3_refusals import refusing

GOOD = "build('a', 'b')"


class TestDatabase(Protocol):
    __test__ = False
    url: str


@pytest.fixture
def refreshes(sample_database: TestDatabase, ledger: Database, tmp_path: Path) -> Refreshes:
    return Refreshes.prepare(sample_database.url, ledger, tmp_path)


def assert_refused(
    refreshes: Refreshes, store: Store, kind: str, words: str, *, retried: bool, script: str = GOOD
) -> None:
    """A refresh whose artifacts cannot be stored: twice where the fault may pass, once where not."""
    services = refreshes.services(script, store=store)
    services = replace(services, retries=replace(services.retries, attempts=2, base_seconds=0.001))
    run_id = refreshes.request()
    if retried:
        assert refresh(run_id, services, Cancellation()) is Status.BUILT
        refreshes.execute("update kiket_analytics.runs set not_before = null")
    assert refresh(run_id, services, Cancellation()) is Status.FAILED
    run = refreshes.run(run_id)
    assert (run.error_kind, run.attempt, run.billable) == (kind, 2 if retried else 1, False)
    assert words in str(run.error_message)
    assert len(str(run.error_message).splitlines()) == 1
    told = [(event["event"], event["error_kind"]) for event in refreshes.events() if "error_kind" in event]
    assert told == [("run.retried", kind)] * retried + [("run.failed", kind)]
    assert refreshes.usage() == []


@pytest.mark.parametrize(
    ("status", "code", "kind", "words", "retried"),
    [
        (404, "NoSuchBucket", "artifacts_bucket_missing", "make the bucket", False),
        (403, "AccessDenied", "artifacts_access_denied", "credentials of AWS_*", False),
        (301, "PermanentRedirect", "artifacts_region_wrong", "is in eu-north-1", False),
        (400, "ExpiredToken", "artifacts_credentials_expired", "have run out", True),
        (503, "SlowDown", "artifacts_unreachable", "SlowDown", True),
    ],
)
def test_what_s3_refuses_has_its_kind_and_costs_nothing(
    refreshes: Refreshes,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    code: str,
    kind: str,
    words: str,
    retried: bool,  # a row of the table
) -> None:
    with refusing(monkeypatch, status, code, headers={"x-amz-bucket-region": "eu-north-1"}):
        assert_refused(refreshes, S3Store("bucket", "p"), kind, words, retried=retried)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB that is full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        (folder / "filler").write_bytes(b"x" * 60_000)
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_tried_again_and_costs_nothing(refreshes: Refreshes, small_disk: Path) -> None:
    store = DirectoryStore(small_disk / "artifacts")
    # A log that packs badly.
    script = "import random\nfor _ in range(2000):\n    print(random.randbytes(40).hex())\n" + GOOD
    assert_refused(refreshes, store, "artifacts_disk_full", "No space left on device", retried=True, script=script)
    assert not list(small_disk.rglob("index.json"))


class Meddling(DirectoryStore):
    """Somebody writes to each file after its checksum was made, and before it is stored."""

    def put(self, key: str, file: Path, **given: Any) -> None:
        with file.open("ab") as target:
            target.write(b"x")
        super().put(key, file, **given)


def test_a_file_that_changes_between_hash_and_upload_is_not_stored(refreshes: Refreshes) -> None:
    store = Meddling(refreshes.folder / "artifacts")
    assert_refused(refreshes, store, "artifact_changed", "was changed while", retried=True)
    assert refreshes.files() == set()
