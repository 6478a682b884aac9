"""The archive of one attempt: its files stored beside each other, and an index of them written last.

Without an index the set does not exist: a crash in the middle leaves nothing that looks complete.
"""

import hashlib
import json
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from kiket_worker.artifacts.assembly import Assembly, Page, assembled, shell_key
from kiket_worker.artifacts.pieces import GZIP, pieces
from kiket_worker.artifacts.store import Store

INDEX_NAME = "index.json"

# A fifth of the time of the usual level, for files a quarter larger: packing is most of what a refresh computes here.
_LEVEL = 1
_CONTENT_TYPES = {
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".log": "application/x-ndjson",
    ".html": "text/html",
}


@dataclass(frozen=True)
class ArchivedFile:
    """One file of a set. `size` (bytes) and `sha256` are of what is stored; `content_*` of what was archived.

    A page that is put together of others has nothing stored by its own name: `assembly` says of what it is made, and
    `size` is 0.
    """

    name: str
    size: int
    sha256: str
    encoding: str | None
    content_size: int
    content_sha256: str
    assembly: Assembly | None = None

    def to_document(self) -> dict[str, Any]:
        """The entry of an index."""
        document = asdict(self)
        if self.assembly is None:
            del document["assembly"]
        return document

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "ArchivedFile":
        """Read an entry of an index, leaving out what a later release has added. Raises `ValueError`."""
        known = {field.name: document[field.name] for field in fields(cls) if field.name in document}
        missing = {field.name for field in fields(cls) if field.default is MISSING} - known.keys()
        if missing or not is_plain(known["name"]):
            raise ValueError("not an entry of an index")
        if (assembly := known.get("assembly")) is not None:
            known["assembly"] = Assembly.from_document(assembly)
        return cls(**known)


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
    store: Store,
    prefix: str,
    files: dict[str, Path],
    about: dict[str, Any],
    *,
    pages: Mapping[str, Page] = MappingProxyType({}),
    scratch: Path | None = None,
) -> ArchivedSet:
    """Store `files` by their names under `prefix`, compressed, and then the index, which also holds `about`.

    Of `pages`, by their names, only what they have in common with other sets' is stored, and outside of this one.

    They are compressed in a folder of its own inside `scratch`, or else where the system keeps temporary files.
    Raises `ArtifactChanged`, `ArtifactsUnreachable` or `ArtifactsRefused`, and then there is no index.
    """
    with tempfile.TemporaryDirectory(prefix="archive-", dir=scratch) as folder:
        stored = tuple(_put_all(store, prefix, sorted(files.items()), Path(folder)))
        stored += tuple(_put_page(store, name, page, files, Path(folder)) for name, page in sorted(pages.items()))
        index = Path(folder) / INDEX_NAME
        document = about | {"files": [file.to_document() for file in stored]}
        content = (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()
        index.write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        store.put(f"{prefix}/{INDEX_NAME}", index, sha256=sha256, content_type="application/json", completes_set=True)
        return ArchivedSet(store.location(prefix), sha256, stored)


def read_index(content: bytes) -> tuple[ArchivedFile, ...]:
    """The files of an index. Raises `ValueError` for anything else: an index is checked like what a stranger wrote."""
    try:
        found = tuple(ArchivedFile.from_document(document) for document in json.loads(content)["files"])
    except (LookupError, TypeError) as fault:
        raise ValueError("not an index") from fault
    if len({file.name for file in found} | {INDEX_NAME}) != len(found) + 1:
        raise ValueError("an index that names a file twice")
    return found


def content_type_of(name: str) -> str:
    """What a file of this name is, as HTTP says it."""
    return _CONTENT_TYPES.get(PurePosixPath(name).suffix, "application/octet-stream")


def is_plain(name: object) -> bool:
    """Whether a name stays within the folder that it is put into, whatever system reads it."""
    if not isinstance(name, str) or not name or not name.isprintable() or set(name) & set('\\:"*?<>|'):
        return False
    return PurePosixPath(name).as_posix() == name and not name.startswith("/") and ".." not in name.split("/")


def _put_all(store: Store, prefix: str, files: list[tuple[str, Path]], folder: Path) -> Iterator[ArchivedFile]:
    def put(number: int) -> ArchivedFile:
        name, path = files[number]
        return _put(store, prefix, name, path, folder / str(number))

    at_once = min(store.puts_at_once, len(files))
    if at_once < 2:
        yield from map(put, range(len(files)))
        return
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="archive")
    try:
        yield from pool.map(put, range(len(files)))
    finally:
        # After a failure nothing more is begun, and what was begun has ended before anybody tries again.
        pool.shutdown(cancel_futures=True)


def _put_page(store: Store, name: str, page: Page, files: Mapping[str, Path], folder: Path) -> ArchivedFile:
    shell = _pack(name, page.shell, folder / "shell")
    key = shell_key(shell.sha256)
    if not _has(store, key):
        store.put(key, folder / "shell", sha256=shell.sha256, content_type="text/html", encoding=shell.encoding)
    assembly = Assembly(key, dict(page.holes))
    digest, size = hashlib.sha256(), 0
    for piece in assembled(page.shell.read_bytes(), assembly.holes, lambda file: _pieces_of(files[file])):
        digest.update(piece)
        size += len(piece)
    nothing = hashlib.sha256().hexdigest()
    return ArchivedFile(name, 0, nothing, None, size, digest.hexdigest(), assembly)


def _pieces_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from pieces(file)


def _has(store: Store, key: str) -> bool:
    try:
        with store.open(key):
            return True
    except FileNotFoundError:
        return False


def _put(store: Store, prefix: str, name: str, path: Path, packed: Path) -> ArchivedFile:
    file = _pack(name, path, packed)
    content_type = content_type_of(path.name)
    store.put(f"{prefix}/{name}", packed, sha256=file.sha256, content_type=content_type, encoding=file.encoding)
    packed.unlink()
    return file


def _pack(name: str, path: Path, packed: Path) -> ArchivedFile:
    """Compress a file; both checksums are made of what passes by, and nothing is read again."""
    content, stored = hashlib.sha256(), hashlib.sha256()
    content_size = size = 0
    packing = zlib.compressobj(_LEVEL, zlib.DEFLATED, GZIP)
    with path.open("rb", buffering=0) as source, packed.open("wb") as target:
        for piece in pieces(source):
            content.update(piece)
            content_size += len(piece)
            packed_piece = packing.compress(piece)
            stored.update(packed_piece)
            size += target.write(packed_piece)
        packed_piece = packing.flush()
        stored.update(packed_piece)
        size += target.write(packed_piece)
    return ArchivedFile(name, size, stored.hexdigest(), "gzip", content_size, content.hexdigest())
