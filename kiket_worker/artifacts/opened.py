"""A set of artifacts that is open for reading: its index is verified, and each file is, while it is read."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kiket_worker.artifacts.archive import INDEX_NAME, ArchivedFile, read_index
from kiket_worker.artifacts.reading import content_of
from kiket_worker.artifacts.store import Store
from kiket_worker.errors import ArtifactDamaged


@dataclass(frozen=True)
class OpenSet:
    """The files of one attempt, as its index names them. `index` is the index itself."""

    store: Store = field(repr=False)
    prefix: str
    index: bytes = field(repr=False)
    files: tuple[ArchivedFile, ...]

    def about(self) -> dict[str, Any]:
        """What the index says of the attempt, beside its files: the engine, the bundle, versions."""
        document = json.loads(self.index)
        return {name: value for name, value in document.items() if name != "files"}

    def find(self, name: str) -> ArchivedFile | None:
        """The file of this name; None where the set has none, the index itself included."""
        return next((file for file in self.files if file.name == name), None)

    def pieces(self, file: ArchivedFile) -> Iterator[bytes]:
        """A file's content, unpacked, piece by piece.

        Raises `ArtifactDamaged` before the last piece where what was given before is not what was archived: who has
        been promised all bytes of the file never gets that many of a damaged one.
        """
        last = b""
        for piece in content_of(self.store, self.prefix, file, self.files):
            if piece:  # An empty one would let the last one go.
                if last:
                    yield last
                last = piece
        if last:
            yield last

    def read(self, name: str, *, most_bytes: int) -> bytes | None:
        """A small file, whole; None where the set has none of this name, or one that is larger.

        Raises `ArtifactDamaged`.
        """
        file = self.find(name)
        if file is None or file.content_size > most_bytes:
            return None
        return b"".join(content_of(self.store, self.prefix, file, self.files))


def open_set(store: Store, prefix: str, index_sha256: str | None) -> OpenSet:
    """Open a set. With the checksum that the ledger has of its index, nobody can have changed it since.

    Raises `ArtifactDamaged`.
    """
    key = f"{prefix}/{INDEX_NAME}"
    try:
        content = store.get(key)
    except FileNotFoundError:
        raise ArtifactDamaged(f"{store.location(prefix)} has no index: there is no complete set") from None
    if index_sha256 and hashlib.sha256(content).hexdigest() != index_sha256:
        raise ArtifactDamaged(
            f"{key} is damaged: its checksum is not the ledger's, so nothing that it says is believed"
        )
    try:
        return OpenSet(store, prefix, content, read_index(content))
    except ValueError:
        raise ArtifactDamaged(f"{prefix}/{INDEX_NAME} is damaged: it is not an index") from None
