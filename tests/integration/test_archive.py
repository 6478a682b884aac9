"""The archive of an attempt: whole and described, or not there."""

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiket_worker.artifacts.archive import INDEX_NAME, ArchivedSet, archive, read_index
from kiket_worker.artifacts.assembly import Page
from kiket_worker.artifacts.directory import DirectoryStore
from kiket_worker.artifacts.reading import faults
from kiket_worker.artifacts.restoring import restore
from kiket_worker.artifacts.store import Store, open_store
from kiket_worker.errors import ArtifactsUnreachable

PREFIX = "acme/0197/1"
CONTENTS = {
    "manifest.json": b'{"nodes": {}}',
    "run_results.json": b"",
    "dbt.log": b'{"info": {}}\n' * 10_000,
    "docs/index.html": "<h1>größe</h1>".encode(),
    "otel-logs.jsonl": os.urandom(100_000),
}


class ObservedStore:
    """A store that notes the order of what is put, and fails at one position of it."""

    def __init__(self, inner: Store, failing_at: int | None = None) -> None:
        self._inner = inner
        self._failing_at = failing_at
        self.puts: list[tuple[str, str, str | None]] = []

    def location(self, key: str) -> str:
        return self._inner.location(key)

    def put(self, key: str, file: Path, **options: Any) -> None:
        if len(self.puts) == self._failing_at:
            raise ArtifactsUnreachable("the store is away")
        self.puts.append((key, options["content_type"], options.get("encoding")))
        self._inner.put(key, file, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    paths = {name: tmp_path / "attempt" / name for name in CONTENTS}
    for name, path in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENTS[name])
    return paths


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "directory":
        return DirectoryStore(tmp_path / "store")
    return open_store(f"s3://{request.getfixturevalue('s3_bucket')}/{tmp_path.name}")


@pytest.fixture
def directory(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def replace(tmp_path: Path) -> Callable[[Store, str, bytes], None]:
    """Put other bytes in the place of a file of the set, as damage would."""

    def put(store: Store, name: str, content: bytes) -> None:
        path = tmp_path / "replacement"
        path.write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        store.put(f"{PREFIX}/{name}", path, sha256=sha256, content_type="application/json")

    return put


def test_every_file_comes_back_as_it_was(store: Store, files: dict[str, Path]) -> None:
    archive(store, PREFIX, files, {})
    for name, content in CONTENTS.items():
        assert gzip.decompress(store.get(f"{PREFIX}/{name}")) == content


def test_the_index_is_plain_json_that_describes_exactly_what_is_stored(store: Store, files: dict[str, Path]) -> None:
    archived = archive(store, PREFIX, files, {"bundle": "sha256:1", "engine": "executable"})
    raw = store.get(f"{PREFIX}/{INDEX_NAME}")
    index = json.loads(raw)
    assert (index["bundle"], index["engine"]) == ("sha256:1", "executable")
    assert [file["name"] for file in index["files"]] == sorted(CONTENTS)
    for file in index["files"]:
        stored, content = store.get(f"{PREFIX}/{file['name']}"), CONTENTS[file["name"]]
        assert file == {
            "name": file["name"],
            "encoding": "gzip",
            "size": len(stored),
            "sha256": hashlib.sha256(stored).hexdigest(),
            "content_size": len(content),
            "content_sha256": hashlib.sha256(content).hexdigest(),
        }
    assert archived.index_sha256 == hashlib.sha256(raw).hexdigest()
    assert archived.location == store.location(PREFIX)
    assert archived.size == sum(file["size"] for file in index["files"])
    assert list(faults(store, PREFIX)) == []


SHELL = b'<html><script>var m = "kiket artifact manifest.json", r = "kiket artifact run_results.json"</script>'
HOLES = {name: f'"kiket artifact {name}"' for name in ("manifest.json", "run_results.json")}
SCRIPTED = b'{"nodes": "</script><script>alert(1)</script><!--"}'


@pytest.fixture
def page(files: dict[str, Path], tmp_path: Path) -> Page:
    """A page of two files of the set, one of which tries to end the script that it stands in."""
    files["manifest.json"].write_bytes(SCRIPTED)
    shell = tmp_path / "shell.html"
    shell.write_bytes(SHELL)
    return Page(shell, HOLES)


def test_a_page_is_put_together_of_a_shell_that_is_stored_once(
    store: Store, files: dict[str, Path], page: Page, tmp_path: Path
) -> None:
    del files["docs/index.html"]
    for attempt in ("1", "2"):
        prefix = f"acme/0197/{attempt}"
        archived = archive(store, prefix, files, {}, pages={"docs/index.html": page})
        assert list(faults(store, prefix, archived.index_sha256)) == []
    stored = [file.key for file in store.list("")]
    assert len([key for key in stored if key.startswith("_docs/")]) == 1
    assert not [key for key in stored if key.endswith("docs/index.html")]
    restore(store, PREFIX, tmp_path / "restored", index_sha256=None)
    restored = (tmp_path / "restored" / "docs" / "index.html").read_bytes()
    escaped = SCRIPTED.replace(b"<", b"\\u003c")
    assert json.loads(escaped) == json.loads(SCRIPTED)
    assert restored == SHELL.replace(HOLES["manifest.json"].encode(), escaped).replace(
        HOLES["run_results.json"].encode(), b""
    )


def test_a_page_whose_parts_are_damaged_or_missing_is_named(
    directory: DirectoryStore, files: dict[str, Path], page: Page, tmp_path: Path
) -> None:
    archive(directory, PREFIX, files, {}, pages={"docs/page.html": page})
    (shell,) = (tmp_path / "store" / "_docs").iterdir()
    whole = shell.read_bytes()
    shell.write_bytes(whole[:-1] + b"x")
    assert [fault for fault in faults(directory, PREFIX) if "_docs/" in fault]
    shell.unlink()
    assert list(faults(directory, PREFIX)) == [f"_docs/{shell.name} is missing"]
    shell.write_bytes(whole)
    assert list(faults(directory, PREFIX)) == []
    (tmp_path / "store" / PREFIX / "manifest.json").unlink()
    assert set(faults(directory, PREFIX)) == {f"{PREFIX}/manifest.json is missing"}


@pytest.mark.parametrize(
    "assembly",
    [
        {"shell": "../secrets", "holes": {"manifest.json": "x"}},
        {"shell": "acme/0197/1/index.json", "holes": {}},
        {"shell": f"_docs/{'0' * 64}.html", "holes": {"manifest.json": ""}},
        {"shell": f"_docs/{'0' * 64}.html", "holes": ["manifest.json"]},
        {"holes": {}},
        "_docs",
    ],
)
def test_an_index_that_makes_a_page_of_anything_else_is_none(assembly: object) -> None:
    entry = {"name": "a", "size": 0, "sha256": "", "encoding": None, "content_size": 0, "content_sha256": ""}
    with pytest.raises(ValueError, match="not"):
        read_index(json.dumps({"files": [entry | {"assembly": assembly}]}).encode())


def test_the_index_is_written_last(directory: DirectoryStore, files: dict[str, Path]) -> None:
    observed = ObservedStore(directory)
    archive(observed, PREFIX, files, {})
    assert observed.puts == [
        (f"{PREFIX}/dbt.log", "application/x-ndjson", "gzip"),
        (f"{PREFIX}/docs/index.html", "text/html", "gzip"),
        (f"{PREFIX}/manifest.json", "application/json", "gzip"),
        (f"{PREFIX}/otel-logs.jsonl", "application/x-ndjson", "gzip"),
        (f"{PREFIX}/run_results.json", "application/json", "gzip"),
        (f"{PREFIX}/{INDEX_NAME}", "application/json", None),
    ]


@pytest.mark.parametrize("position", range(len(CONTENTS) + 1))
def test_a_put_that_fails_leaves_no_index(directory: DirectoryStore, files: dict[str, Path], position: int) -> None:
    with pytest.raises(ArtifactsUnreachable):
        archive(ObservedStore(directory, failing_at=position), PREFIX, files, {})
    assert list(faults(directory, PREFIX)) == [f"{PREFIX} has no index"]


def test_an_archive_that_failed_is_complete_when_made_again(directory: DirectoryStore, files: dict[str, Path]) -> None:
    with pytest.raises(ArtifactsUnreachable):
        archive(ObservedStore(directory, failing_at=3), PREFIX, files, {})
    archive(directory, PREFIX, files, {})
    assert list(faults(directory, PREFIX)) == []


def test_a_file_that_is_missing_at_the_source_leaves_no_index(
    directory: DirectoryStore, files: dict[str, Path]
) -> None:
    files["manifest.json"].unlink()
    with pytest.raises(FileNotFoundError):
        archive(directory, PREFIX, files, {})
    assert list(faults(directory, PREFIX)) == [f"{PREFIX} has no index"]


def test_the_same_content_gives_the_same_bytes(directory: DirectoryStore, files: dict[str, Path]) -> None:
    def archived_at(seconds: int, prefix: str) -> ArchivedSet:
        for path in files.values():
            os.utime(path, (seconds, seconds))
        return archive(directory, prefix, files, {"engine": "executable"})

    first, second = archived_at(1_000_000_000, "first"), archived_at(2_000_000_000, "second")
    assert first.files == second.files
    assert first.index_sha256 == second.index_sha256
    # No name and no time in the header: gzip's flags and its four bytes of time (RFC 1952) are zero.
    assert directory.get("first/manifest.json")[3:8] == bytes(5)


def test_an_archive_of_nothing_has_an_index(directory: DirectoryStore) -> None:
    assert archive(directory, PREFIX, {}, {}).size == 0
    assert list(faults(directory, PREFIX)) == []


class TestFaults:
    def test_a_set_without_index_does_not_exist(self, store: Store) -> None:
        assert list(faults(store, PREFIX)) == [f"{PREFIX} has no index"]

    def test_a_flipped_bit_is_found(
        self, store: Store, files: dict[str, Path], replace: Callable[[Store, str, bytes], None]
    ) -> None:
        archive(store, PREFIX, files, {})
        stored = bytearray(store.get(f"{PREFIX}/dbt.log"))
        stored[len(stored) // 2] ^= 1
        replace(store, "dbt.log", bytes(stored))
        (fault,) = faults(store, PREFIX)
        assert fault.startswith(f"{PREFIX}/dbt.log is damaged")

    def test_every_missing_file_is_named(
        self, directory: DirectoryStore, files: dict[str, Path], tmp_path: Path
    ) -> None:
        archive(directory, PREFIX, files, {})
        for name in ("manifest.json", "docs/index.html"):
            (tmp_path / "store" / PREFIX / name).unlink()
        assert list(faults(directory, PREFIX)) == [
            f"{PREFIX}/docs/index.html is missing",
            f"{PREFIX}/manifest.json is missing",
        ]

    @pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{}", b"null", b'{"files": [{'])
    def test_a_damaged_index_is_a_fault_and_no_crash(
        self,
        directory: DirectoryStore,
        files: dict[str, Path],
        replace: Callable[[Store, str, bytes], None],
        content: bytes,
    ) -> None:
        archive(directory, PREFIX, files, {})
        replace(directory, INDEX_NAME, content)
        assert list(faults(directory, PREFIX)) == [f"{PREFIX}/{INDEX_NAME} is damaged: it is not an index"]
