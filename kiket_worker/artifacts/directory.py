"""Artifacts in a directory: for one machine, for the demo, and for a volume that several workers share."""

import os
import shutil
from pathlib import Path
from uuid import uuid4

from kiket_worker.errors import ArtifactsRefused


class DirectoryStore:
    """Files under one folder. A file appears under its name in one step (rename), after its bytes are on disk."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def location(self, key: str) -> str:
        """See `Store.location`."""
        return (self._root / key).as_uri()

    def put(self, key: str, file: Path, *, content_type: str, encoding: str | None = None) -> None:
        """See `Store.put`."""
        path = self._root / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.parent / f".part-{uuid4().hex}"
            try:
                with file.open("rb") as source, part.open("xb") as target:
                    shutil.copyfileobj(source, target)
                    target.flush()
                    os.fsync(target.fileno())
                part.replace(path)
                _sync_folder(path.parent)
            finally:
                part.unlink(missing_ok=True)
        except OSError as fault:
            raise ArtifactsRefused(f"artifact {path} cannot be written: {fault.strerror or fault}") from fault

    def get(self, key: str) -> bytes:
        """See `Store.get`."""
        path = self._root / key
        try:
            return path.read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise FileNotFoundError(self.location(key)) from None
        except OSError as fault:
            raise ArtifactsRefused(f"artifact {path} cannot be read: {fault.strerror or fault}") from fault


def _sync_folder(folder: Path) -> None:
    """Make a rename durable: the ledger is about to say that the file is there."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
