"""The archive of one attempt: its files stored one by one, and an index of them written last.

Without an index the set does not exist: a crash in the middle leaves nothing that looks complete.
"""

import gzip
import hashlib
import json
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kiket_worker.artifacts.store import Store

INDEX_NAME = "index.json"

# A fifth of the time of the usual level, for files a quarter larger: packing is most of what a refresh computes here.
_LEVEL = 1
_CHUNK_BYTES = 1024 * 1024
_CONTENT_TYPES = {
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".log": "application/x-ndjson",
    ".html": "text/html",
}


@dataclass(frozen=True)
class ArchivedFile:
    """One file of a set. `size` (bytes) and `sha256` are of what is stored; `content_*` of what was archived."""

    name: str
    size: int
    sha256: str
    encoding: str | None
    content_size: int
    content_sha256: str


@dataclass(frozen=True)
class ArchivedSet:
    """A complete set: where it is, its index's checksum, and how much it holds."""

    location: str
    index_sha256: str
    files: tuple[ArchivedFile, ...]

    @property
    def size(self) -> int:
        """Bytes stored, without the index."""
        return sum(file.size for file in self.files)


def archive(
    store: Store, prefix: str, files: dict[str, Path], about: dict[str, Any], *, scratch: Path | None = None
) -> ArchivedSet:
    """Store `files` by their names under `prefix`, compressed, and then the index, which also holds `about`.

    They are compressed in a folder of its own inside `scratch`, or else where the system keeps temporary files.
    Raises `ArtifactsUnreachable` or `ArtifactsRefused`, and then there is no index.
    """
    with tempfile.TemporaryDirectory(prefix="archive-", dir=scratch) as folder:
        stored = tuple(_put(store, prefix, name, path, Path(folder)) for name, path in sorted(files.items()))
        index = Path(folder) / INDEX_NAME
        document = about | {"files": [asdict(file) for file in stored]}
        index.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        store.put(f"{prefix}/{INDEX_NAME}", index, content_type="application/json")
        return ArchivedSet(store.location(prefix), _digest(index), stored)


def faults(store: Store, prefix: str) -> Iterable[str]:
    """What is wrong with a set, one sentence a fault; nothing for one that is complete and undamaged."""
    try:
        files = json.loads(store.get(f"{prefix}/{INDEX_NAME}"))["files"]
    except FileNotFoundError:
        yield f"{prefix} has no index"
        return
    except (ValueError, LookupError, TypeError):
        yield f"{prefix}/{INDEX_NAME} is damaged: it is not an index"
        return
    for file in files:
        try:
            stored = store.get(f"{prefix}/{file['name']}")
        except FileNotFoundError:
            yield f"{prefix}/{file['name']} is missing"
            continue
        if hashlib.sha256(stored).hexdigest() != file["sha256"]:
            yield f"{prefix}/{file['name']} is damaged: its checksum is not the index's"


def _put(store: Store, prefix: str, name: str, path: Path, folder: Path) -> ArchivedFile:
    packed, content = folder / "packed", hashlib.sha256()
    with (
        path.open("rb") as source,
        packed.open("wb") as target,
        # No name and no time in the header, so that the same content gives the same bytes.
        gzip.GzipFile(filename="", fileobj=target, mode="wb", compresslevel=_LEVEL, mtime=0) as compressed,
    ):
        while chunk := source.read(_CHUNK_BYTES):
            content.update(chunk)
            compressed.write(chunk)
    file = ArchivedFile(
        name=name,
        size=packed.stat().st_size,
        sha256=_digest(packed),
        encoding="gzip",
        content_size=path.stat().st_size,
        content_sha256=content.hexdigest(),
    )
    content_type = _CONTENT_TYPES.get(path.suffix, "application/octet-stream")
    store.put(f"{prefix}/{name}", packed, content_type=content_type, encoding=file.encoding)
    return file


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
