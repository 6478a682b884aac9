"""Archived files read back: piece by piece, and compared with their index on the way."""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from kiket_worker.artifacts.archive import INDEX_NAME, ArchivedFile, read_index
from kiket_worker.artifacts.assembly import Assembly, assembled
from kiket_worker.artifacts.pieces import GZIP, PIECE_BYTES, pieces
from kiket_worker.artifacts.store import Store
from kiket_worker.errors import ArtifactDamaged

# dbt's has two megabytes.
_MOST_OF_A_SHELL = 64 * 1024 * 1024


def faults(store: Store, prefix: str, index_sha256: str | None = None) -> Iterator[str]:
    """What is wrong with a set, one sentence a fault; nothing for one that is complete and undamaged.

    With the checksum that the ledger has of its index, nobody can have changed the set and its index together.
    """
    try:
        content = store.get(f"{prefix}/{INDEX_NAME}")
    except FileNotFoundError:
        yield f"{prefix} has no index"
        return
    except OSError as fault:
        yield f"{prefix}/{INDEX_NAME} cannot be read: {fault.strerror}"
        return
    if index_sha256 and hashlib.sha256(content).hexdigest() != index_sha256:
        yield f"{prefix}/{INDEX_NAME} is damaged: its checksum is not the ledger's"
    try:
        files = read_index(content)
    except ValueError:
        yield f"{prefix}/{INDEX_NAME} is damaged: it is not an index"
        return
    for file in files:
        try:
            read(store, prefix, file, lambda _: None, files)
        except ArtifactDamaged as fault:
            yield str(fault)
        except OSError as fault:
            yield f"{prefix}/{file.name} cannot be read: {fault.strerror}"


def read(
    store: Store,
    prefix: str,
    file: ArchivedFile,
    write: Callable[[bytes], object],
    files: Sequence[ArchivedFile],
) -> None:
    """Give a file's content, unpacked, to `write`. Raises `ArtifactDamaged` at the end, so what was written may be bad.

    Both checksums are made anew, and no more is unpacked than the index speaks of. `files` are all of the set, of which
    a page may be made.
    """
    for piece in content_of(store, prefix, file, files):
        write(piece)


def content_of(store: Store, prefix: str, file: ArchivedFile, files: Sequence[ArchivedFile]) -> Iterator[bytes]:
    """A file's content, unpacked, piece by piece. Raises `ArtifactDamaged` at the end, as `read` does."""
    key = f"{prefix}/{file.name}"
    content, content_size = hashlib.sha256(), 0
    found = _page(store, prefix, file.assembly, files) if file.assembly else _content(store, key, file)
    for piece in found:
        content.update(piece)
        content_size += len(piece)
        if content_size > file.content_size:
            break
        yield piece
    if (content_size, content.hexdigest()) != (file.content_size, file.content_sha256):
        raise ArtifactDamaged(f"{key} is damaged: the checksum of its content is not the index's")


def _content(store: Store, key: str, file: ArchivedFile) -> Iterator[bytes]:
    """What is stored, unpacked. Raises `ArtifactDamaged` at its end where it is not what the index says."""
    yield from _checked(store, key, file.encoding, file.sha256, file.content_size)


def _page(store: Store, prefix: str, assembly: Assembly, files: Sequence[ArchivedFile]) -> Iterator[bytes]:
    """A page, put together. Raises `ArtifactDamaged` where one of its parts is damaged or missing."""
    parts = {file.name: file for file in files if file.assembly is None}
    if missing := sorted(assembly.holes.keys() - parts.keys()):
        raise ArtifactDamaged(f"{prefix} has no {', '.join(missing)}, of which a page is made")
    shell = b"".join(_checked(store, assembly.shell, "gzip", assembly.shell_sha256, _MOST_OF_A_SHELL))
    yield from assembled(shell, assembly.holes, lambda name: _content(store, f"{prefix}/{name}", parts[name]))


def _checked(store: Store, key: str, encoding: str | None, sha256: str, most_bytes: int) -> Iterator[bytes]:
    stored, size = hashlib.sha256(), 0
    try:
        with store.open(key) as source:
            packed = _observed(pieces(source), stored.update)
            for piece in _unpacked(packed, encoding):
                size += len(piece)
                yield piece
                if size > most_bytes:
                    break
            for _ in packed:  # What stands behind the end of what was packed counts for the checksum.
                pass
    except FileNotFoundError:
        raise ArtifactDamaged(f"{key} is missing") from None
    except (ValueError, zlib.error) as fault:
        raise ArtifactDamaged(f"{key} is damaged: {fault}") from fault
    if stored.hexdigest() != sha256:
        raise ArtifactDamaged(f"{key} is damaged: its checksum is not the index's")


def _observed(given: Iterable[bytes], observe: Callable[[bytes], object]) -> Iterator[bytes]:
    for piece in given:
        observe(piece)
        yield piece


def _unpacked(given: Iterable[bytes], encoding: str | None) -> Iterator[bytes]:
    """What was packed, in pieces of a bounded size: a few bytes may unpack to gigabytes."""
    if encoding is None:
        yield from given
        return
    if encoding != "gzip":
        raise ValueError(f"its encoding {encoding!r} is unknown")
    unpacking = zlib.decompressobj(GZIP)
    for piece in given:
        packed = piece
        while packed and not unpacking.eof:
            yield unpacking.decompress(packed, PIECE_BYTES)
            packed = unpacking.unconsumed_tail
    yield unpacking.flush()
    if not unpacking.eof:
        raise ValueError("it ends in the middle")
