"""Artifacts in a directory: for one machine, for the demo, and for a volume that several workers share."""

import contextlib
import errno
import hashlib
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from kiket_worker.artifacts.pieces import pieces
from kiket_worker.artifacts.stored import Stored, Unfinished
from kiket_worker.errors import ArtifactChanged, ArtifactsDiskFull, ArtifactsRefused

_PART = ".part-"
_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


class DirectoryStore:
    """Files under one folder. A file appears under its name in one step (rename), after its bytes are on disk."""

    # The disk is the same for all of them, and a worker that has more than one run in hand waits for it in turns.
    puts_at_once = 1

    def __init__(self, root: Path) -> None:
        self._root = root

    def location(self, key: str) -> str:
        """See `Store.location`."""
        return (self._root / key).as_uri()

    def put(
        self,
        key: str,
        file: Path,
        *,
        sha256: str,
        content_type: str,  # a folder keeps none
        encoding: str | None = None,  # nor this
        completes_set: bool = False,
    ) -> None:
        """See `Store.put`."""
        path = self._root / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.parent / f"{_PART}{uuid4().hex}"
            try:
                if _copy(file, part) != sha256:
                    raise ArtifactChanged(f"{file} was changed while artifact {path} was stored, so it is not stored")
                if completes_set:
                    self._make_durable(path.parent)
                part.replace(path)
                if completes_set:
                    _sync(path.parent)
            finally:
                part.unlink(missing_ok=True)
        except OSError as fault:
            raise _refusal(path, "written", fault) from fault

    def get(self, key: str) -> bytes:
        """See `Store.get`."""
        with self.open(key) as file:
            return file.read()

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """See `Store.open`."""
        path = self._root / key
        try:
            file = path.open("rb")
        except _ABSENT:
            raise FileNotFoundError(self.location(key)) from None
        except OSError as fault:
            raise _refusal(path, "read", fault) from fault
        with file:
            yield file

    def list(self, folder: str) -> Iterator[Stored]:
        """See `Store.list`."""
        for path in self._paths(folder):
            if path.name.startswith(_PART):
                continue
            with contextlib.suppress(FileNotFoundError):  # Removed since its folder was read.
                status = path.stat()
                modified_at = datetime.fromtimestamp(status.st_mtime, UTC)
                yield Stored(path.relative_to(self._root).as_posix(), status.st_size, modified_at)

    def remove(self, keys: Collection[str]) -> None:
        """See `Store.remove`."""
        for key in keys:
            self._remove(self._root / key)

    def unfinished(self) -> Iterator[Unfinished]:
        """See `Store.unfinished`."""
        for path in self._paths(""):
            if path.name.startswith(_PART):
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    key = path.relative_to(self._root).as_posix()
                    yield Unfinished(key, key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def discard(self, upload: Unfinished) -> None:
        """See `Store.discard`."""
        self._remove(self._root / upload.upload)

    def _paths(self, folder: str) -> Iterator[Path]:
        """Files below a folder, folder by folder, in the order of their names. Links are not followed."""
        try:
            entries = sorted(os.scandir(self._root / folder), key=lambda entry: entry.name)
        except _ABSENT:
            return
        except OSError as fault:
            raise _refusal(self._root / folder, "read", fault) from fault
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from self._paths(f"{folder}/{entry.name}" if folder else entry.name)
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path)

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as fault:
            raise _refusal(path, "removed", fault) from fault
        # What stands right below the root stays: somebody may be about to put something into it.
        for folder in path.parents[: len(path.relative_to(self._root).parts) - 2]:
            try:
                folder.rmdir()
            except OSError:  # Not empty, or gone.
                return

    def _make_durable(self, folder: Path) -> None:
        """Make the names of a folder's files durable, and its own and its parents', which may be new."""
        for below, _, _ in os.walk(folder, topdown=False):
            _sync(Path(below))
        for parent in folder.parents:
            if not parent.is_relative_to(self._root):
                return
            _sync(parent)


def _copy(source: Path, target: Path) -> str:
    """Copy a file to the disk, and give the SHA-256 of what was copied."""
    digest = hashlib.sha256()
    with source.open("rb") as read, target.open("xb") as written:
        for piece in pieces(read):
            digest.update(piece)
            written.write(piece)
        written.flush()
        os.fsync(written.fileno())
    return digest.hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refusal(path: Path, done: str, fault: OSError) -> ArtifactsRefused:
    reason = f"artifact {path} cannot be {done}: {fault.strerror or fault}"
    if fault.errno in {errno.ENOSPC, errno.EDQUOT}:
        return ArtifactsDiskFull(
            f"{reason}; make room, as `kiket-worker artifacts prune` does, or let ARTIFACTS_URL name a larger disk"
        )
    return ArtifactsRefused(reason)
