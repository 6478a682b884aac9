"""What a store refuses, from the refresh to the ledger and the log: each has its kind, and nothing is charged."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from kiket_worker.artifacts.directory import DirectoryStore
from kiket_worker.artifacts.store import Store, open_store
from kiket_worker.dbt.engine import Cancellation
from kiket_worker.ledger.runs import Status
from kiket_worker.refresh.pipeline import refresh
from tests.support.refreshes import Refreshes
from tests.support.s3_server import S3Server

GOOD = "build('a', 'b')"
DISK_BYTES = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def error_of(refreshes: Refreshes, run_id: UUID) -> tuple[Any, ...]:
    """Kind and words of the last attempt's error, as the ledger has them."""
    (found,) = refreshes.rows(
        "select error_kind, error_message from kiket_analytics.attempts where run_id = %s"
        " order by lease_epoch desc limit 1",
        run_id,
    )
    return found


def told(refreshes: Refreshes, event: str) -> dict[str, Any]:
    (found,) = [line for line in refreshes.events() if line["event"] == event]
    return found


def fails(refreshes: Refreshes, store: Store, kind: str, *words: str) -> None:
    """A refresh into the store ends at once, with this kind of error and these words, and nothing is charged."""
    run_id = refreshes.request()
    assert refresh(run_id, refreshes.services(GOOD, store=store), Cancellation()) is Status.FAILED
    run, logged = refreshes.run(run_id), told(refreshes, "run.failed")
    assert (run.attempt, run.error_kind, run.artifacts_location) == (1, kind, None)
    assert (logged["error_kind"], logged["error"]) == (kind, run.error_message)
    assert error_of(refreshes, run_id) == (kind, run.error_message)
    assert len(str(run.error_message).splitlines()) == 1
    for word in words:
        assert word in str(run.error_message)
    assert refreshes.usage() == []


def is_tried_again(refreshes: Refreshes, store: Store, mend: Callable[[], Store], kind: str, *words: str) -> None:
    """A refresh into the store waits and is tried again; nothing is charged before it succeeds into the mended one."""
    run_id = refreshes.request()
    assert refresh(run_id, refreshes.services(GOOD, store=store), Cancellation()) is Status.BUILT
    retried = told(refreshes, "run.retried")
    assert error_of(refreshes, run_id) == (kind, retried["error"])
    assert (retried["error_kind"], retried["attempt"]) == (kind, 1)
    assert len(retried["error"].splitlines()) == 1
    for word in words:
        assert word in retried["error"]
    assert refreshes.usage() == []

    refreshes.execute("update kiket_analytics.runs set not_before = now() where not_before is not null")
    assert refresh(run_id, refreshes.services(GOOD, store=mend()), Cancellation()) is Status.SUCCEEDED
    assert refreshes.run(run_id).attempt == 2
    assert len(refreshes.usage()) == 2


def test_a_bucket_that_is_missing(refreshes: Refreshes, s3_bucket: str) -> None:
    fails(refreshes, open_store("s3://kiket-nowhere/p"), "artifacts_bucket_missing", "s3://kiket-nowhere/p/acme/")


@pytest.mark.parametrize(
    ("status", "code", "told", "kind", "words"),
    [
        (403, "AccessDenied", "", "artifacts_access_denied", ["credentials of AWS_*", "ARTIFACTS_URL"]),
        (
            *(301, "PermanentRedirect", "<Region>eu-north-1</Region>"),
            *("artifacts_region_wrong", ["set AWS_DEFAULT_REGION to eu-north-1"]),
        ),
    ],
)
def test_a_refusal_that_stays_one_fails_the_run(
    refreshes: Refreshes,
    answering: Callable[..., S3Server],
    status: int,
    code: str,
    told: str,
    kind: str,
    words: list[str],
) -> None:
    answering(status, code, words=told)
    fails(refreshes, open_store("s3://bucket/p"), kind, f"{code} ({status})", *words)
    assert "hunter2" not in refreshes.log.getvalue()


def test_credentials_that_have_expired_are_waited_for(refreshes: Refreshes, answering: Callable[..., S3Server]) -> None:
    answering(400, "ExpiredToken")
    words = ("ExpiredToken (400)", "AWS_*", "have run out")
    is_tried_again(
        refreshes, open_store("s3://bucket/p"), lambda: refreshes.store, "artifacts_credentials_expired", *words
    )


def test_a_full_disk_is_waited_for(refreshes: Refreshes, small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(DISK_BYTES))
    store = DirectoryStore(small_disk / "artifacts")

    def mend() -> Store:
        assert list(store.list("")) == list(store.unfinished()) == [], "a failed put leaves nothing"
        ballast.unlink()
        return store

    is_tried_again(refreshes, store, mend, "artifacts_disk_full", f"{small_disk}/artifacts/acme/", "No space left")


class Meddler(DirectoryStore):
    """Changes a file when it has been hashed, before it is put."""

    def put(self, key: str, file: Path, **options: Any) -> None:
        if key.endswith("/run_results.json"):
            with file.open("ab") as changed:
                changed.write(b"x")
        super().put(key, file, **options)


def test_a_file_that_is_changed_between_its_hash_and_its_upload_is_made_again(refreshes: Refreshes) -> None:
    meddler = Meddler(refreshes.folder / "artifacts")

    def mend() -> Store:
        assert not any(file.key.endswith(("run_results.json", "index.json")) for file in meddler.list(""))
        return refreshes.store

    is_tried_again(refreshes, meddler, mend, "artifact_changed", "was changed", "run_results.json")
