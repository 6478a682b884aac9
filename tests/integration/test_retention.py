"""Retention: what is old is removed, the last successful set of each organisation is not, and nothing else either."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from kiket_worker.artifacts.archive import INDEX_NAME, archive
from kiket_worker.artifacts.directory import DirectoryStore
from kiket_worker.artifacts.reading import faults
from kiket_worker.artifacts.retention import Removed, What, prune
from kiket_worker.artifacts.store import Store, open_store
from kiket_worker.dbt.engine import Cancellation
from kiket_worker.errors import ArtifactsUnreachable
from kiket_worker.ledger import archives
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.runs import RunId, Status
from kiket_worker.refresh.pipeline import refresh
from tests.support.refreshes import Refreshes

GOOD = "build('a', 'b')"
BROKEN = "start('a'); finish('a', 'error')\nwrite({'results': [result('a', 'error', 'no')]})\nsys.exit(1)"
# None of them is a set: compiled bundles, what a later release keeps, and what people have put beside.
STRANGERS = (
    *("_engine/0f/compiled.json.gz", "_docs/1/index.html", "notes.txt", "acme/readme", "acme/2026/1/a"),
    *(f"acme/{UUID(int=1)}/notes/a", f"Acme/{UUID(int=1)}/1/a", f"acme/{UUID(int=1)}/1", f"_docs/{UUID(int=1)}/1/a"),
)


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, refreshes: Refreshes) -> Store:
    if request.param == "directory":
        return refreshes.store
    return open_store(f"s3://{request.getfixturevalue('s3_bucket')}/{refreshes.folder.name}-{uuid4().hex}")


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., None]:
    def put(store: Store, *keys: str) -> None:
        (tmp_path / "x").write_bytes(b"x")
        for key in keys:
            sha256 = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
            store.put(key, tmp_path / "x", sha256=sha256, content_type="text/plain")

    return put


def run(refreshes: Refreshes, store: Store, slug: str, script: str = GOOD) -> RunId:
    run_id = refreshes.request(slug)
    ended = refresh(run_id, refreshes.services(script, store=store), Cancellation())
    assert ended is (Status.SUCCEEDED if script == GOOD else Status.FAILED)
    return run_id


def in_days(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def pruned(refreshes: Refreshes, store: Store, **options: Any) -> list[Removed]:
    return list(prune(store, refreshes.ledger, **{"keep_days": 30, "now": in_days(30.1)} | options))


def places(store: Store) -> set[str]:
    """The folders of complete sets, and the keys of what is in none."""
    keys = [file.key for file in store.list("")]
    complete = {key.removesuffix(f"/{INDEX_NAME}") for key in keys if key.endswith(f"/{INDEX_NAME}")}
    return complete | {key for key in keys if key.rpartition("/")[0] not in complete}


def test_old_sets_go_and_the_last_successful_one_of_each_organisation_stays(
    refreshes: Refreshes, store: Store, put: Callable[..., None]
) -> None:
    first, last = run(refreshes, store, "acme"), run(refreshes, store, "acme")
    failed_after = run(refreshes, store, "acme", BROKEN)
    never_succeeded = [run(refreshes, store, "north_star", BROKEN) for _ in range(2)]
    put(store, *STRANGERS, f"acme/{UUID(int=2)}/1/manifest.json")
    sizes = {file.key: file.size for file in store.list("")}

    assert pruned(refreshes, store, now=in_days(29.9)) == [
        Removed(What.LEFTOVER, store.location(f"acme/{UUID(int=2)}/1"), 1, 1)
    ], "nothing is 30 days old, and one is no set"
    rehearsed = pruned(refreshes, store, dry_run=True)
    assert places(store) >= {f"acme/{first}/1", f"acme/{last}/1", f"acme/{failed_after}/1", *STRANGERS}
    removed = pruned(refreshes, store)

    assert removed == rehearsed
    gone = [f"acme/{first}/1", f"acme/{failed_after}/1", f"north_star/{never_succeeded[0]}/1"]
    assert {(one.what, one.location) for one in removed} == {(What.SET, store.location(prefix)) for prefix in gone}
    for one in removed:
        of_set = [size for key, size in sizes.items() if store.location(key).startswith(f"{one.location}/")]
        assert (one.files, one.size) == (len(of_set), sum(of_set))
    assert places(store) == {f"acme/{last}/1", f"north_star/{never_succeeded[1]}/1", *STRANGERS}
    for prefix in (f"acme/{last}/1", f"north_star/{never_succeeded[1]}/1"):
        assert list(faults(store, prefix)) == []
    marked = {one.run_id for one in archives.newest(refreshes.ledger) if one.pruned_at}
    assert marked == {first, failed_after, never_succeeded[0]}
    assert pruned(refreshes, store) == []


def test_a_set_that_the_ledger_does_not_know_is_kept_only_where_it_knows_none(
    refreshes: Refreshes, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("content")
    run_id = run(refreshes, store, "acme")
    for slug in ("acme", "gone"):
        for number in (3, 4):
            archive(store, f"{slug}/{UUID(int=number)}/1", {"file": tmp_path / "file"}, {})
    pruned(refreshes, store)
    assert places(store) == {f"acme/{run_id}/1", f"gone/{UUID(int=4)}/1"}


def test_leftovers_wait_a_day_and_for_the_end_of_their_run(
    refreshes: Refreshes, store: Store, put: Callable[..., None]
) -> None:
    run_id = refreshes.request()
    waiting, crashed = f"acme/{run_id}/1", f"acme/{UUID(int=5)}/2"
    put(store, f"{waiting}/manifest.json", f"{crashed}/manifest.json", f"{crashed}/docs/index.html")
    assert pruned(refreshes, store, now=in_days(0.9)) == []
    (removed,) = pruned(refreshes, store, now=in_days(1.1))
    assert (removed.what, removed.location, removed.files) == (What.LEFTOVER, store.location(crashed), 2)
    assert places(store) == {f"{waiting}/manifest.json"}


def test_a_run_that_has_not_ended_keeps_its_set_however_old(refreshes: Refreshes, store: Store) -> None:
    run_id = run(refreshes, store, "acme")
    refreshes.execute("alter table kiket_analytics.runs disable trigger runs_transition")
    refreshes.execute("delete from kiket_analytics.usage_events")
    refreshes.execute("update kiket_analytics.runs set status = 'archived', finished_at = null")
    last = run_of_another_time(refreshes, store)
    assert pruned(refreshes, store) == []
    assert places(store) == {f"acme/{run_id}/1", f"acme/{last}/1"}


def run_of_another_time(refreshes: Refreshes, store: Store) -> UUID:
    """A complete set of the same organisation that is newer and not in the ledger."""
    file = refreshes.folder / "another"
    file.write_text("content")
    # S3 tells whole seconds; of two sets of one second, the higher id counts as the newer one.
    archive(store, f"acme/{UUID(int=2**128 - 1)}/1", {"file": file}, {})
    return UUID(int=2**128 - 1)


def test_shared_models_keep_the_last_successful_set_of_each_schema(
    refreshes: Refreshes, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("content")
    outcomes = [
        *(("analytics_shared", "succeeded"), ("analytics_shared", "succeeded"), ("analytics_shared", "failed")),
        *(("other_shared", "succeeded"), ("analytics_shared", None)),
    ]
    ids = []
    for minute, (schema, outcome) in enumerate(outcomes):
        ((refresh_id,),) = refreshes.rows(
            "insert into kiket_analytics.shared_refreshes (schema_name, bundle_digest, lease_epoch, worker, outcome,"
            " finished_at, error_kind, error_message) values (%s, 'x', 1, 'test', %s, %s, %s, %s) returning refresh_id",
            *(schema, outcome, outcome and in_days(minute / 1440)),
            *(["internal", "no"] if outcome == "failed" else [None, None]),
        )
        ids.append(refresh_id)
        location = archive(store, f"_shared/{refresh_id}/1", {"file": tmp_path / "file"}, {}).location
        refreshes.execute(
            "update kiket_analytics.shared_refreshes set artifacts_location = %s where refresh_id = %s",
            *(location, refresh_id),
        )
    pruned(refreshes, store)
    assert places(store) == {f"_shared/{ids[1]}/1", f"_shared/{ids[3]}/1"}


def test_the_workers_own_login_may_do_all_of_it(refreshes: Refreshes, sample_database: Any) -> None:
    first, _ = run(refreshes, refreshes.store, "acme"), run(refreshes, refreshes.store, "acme")
    with Database(sample_database.with_roles()) as ledger:
        (removed,) = prune(refreshes.store, ledger, keep_days=30, now=in_days(30.1))
        assert removed.location == refreshes.store.location(f"acme/{first}/1")
        assert [one.run_id for one in archives.newest(ledger) if one.pruned_at] == [first]


class Interrupted(DirectoryStore):
    """Removes what it is asked for first, and then nothing more."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked = 0

    def remove(self, keys: Any) -> None:
        self.asked += 1
        if self.asked > 1:
            raise ArtifactsUnreachable("away")
        super().remove(keys)


def test_a_prune_that_ends_in_the_middle_leaves_nothing_that_looks_complete(refreshes: Refreshes) -> None:
    first, last = run(refreshes, refreshes.store, "acme"), run(refreshes, refreshes.store, "acme")
    with pytest.raises(ArtifactsUnreachable):
        pruned(refreshes, Interrupted(refreshes.folder / "artifacts"))
    assert list(faults(refreshes.store, f"acme/{first}/1")) == [f"acme/{first}/1 has no index"]
    about = archives.find(refreshes.ledger, first)
    assert about is not None
    assert about.pruned_at is not None
    assert f"acme/{first}/1/dbt.log" in places(refreshes.store)
    assert [one.what for one in pruned(refreshes, refreshes.store)] == [What.LEFTOVER]
    assert places(refreshes.store) == {f"acme/{last}/1"}
    assert not (refreshes.folder / "artifacts" / "acme" / str(first)).exists(), "no empty folder is left"


def test_a_copy_of_the_store_is_pruned_without_a_word_to_the_ledger(refreshes: Refreshes, s3_bucket: str) -> None:
    first, last = run(refreshes, refreshes.store, "acme"), run(refreshes, refreshes.store, "acme")
    run(refreshes, refreshes.store, "acme", BROKEN)
    copy = DirectoryStore(refreshes.folder / "copy")
    (refreshes.folder / "artifacts").rename(refreshes.folder / "copy")
    pruned(refreshes, copy)
    assert places(copy) == {f"acme/{last}/1"}, "also in a copy, the last successful one"
    about = archives.find(refreshes.ledger, first)
    assert about is not None
    assert about.pruned_at is None


def test_unfinished_uploads_that_nobody_can_be_at_any_more_are_removed(refreshes: Refreshes) -> None:
    root = refreshes.folder / "artifacts"
    parts = [root / place / ".part-1" for place in (f"acme/{UUID(int=7)}/1/docs", "_engine/0f", "photos", ".")]
    for part in parts:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(b"half")
    assert pruned(refreshes, refreshes.store, now=in_days(0.9)) == []
    removed = pruned(refreshes, refreshes.store, now=in_days(1.1))
    assert [(one.what, one.size) for one in removed] == [(What.UPLOAD, 4)] * 2
    assert [part.exists() for part in parts] == [False, False, True, True], "only its own"


def test_sets_of_more_files_than_fit_a_request_go_too(refreshes: Refreshes, tmp_path: Path) -> None:
    folder = tmp_path / "artifacts" / "acme" / str(UUID(int=8)) / "1"
    folder.mkdir(parents=True)
    for number in range(1200):
        (folder / f"{number}").write_bytes(b"x")
    (removed,) = pruned(refreshes, refreshes.store)
    assert (removed.files, removed.size) == (1200, 1200)
    assert list(refreshes.store.list("")) == []
    assert not (folder / INDEX_NAME).exists()
