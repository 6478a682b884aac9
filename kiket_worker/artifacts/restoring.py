"""Archived files brought back to a folder, as they were: each is whole and right, or it is not there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from kiket_worker.artifacts.archive import INDEX_NAME, ArchivedFile
from kiket_worker.artifacts.opened import open_set
from kiket_worker.artifacts.reading import read
from kiket_worker.artifacts.store import Store
from kiket_worker.errors import UsageError


@dataclass(frozen=True)
class Restored:
    """A file that was brought back, with its size in bytes."""

    name: str
    path: Path
    size: int


def restore(
    store: Store,
    prefix: str,
    folder: Path,
    names: Sequence[str] = (),
    *,
    index_sha256: str | None = None,
    overwrite: bool = False,
) -> list[Restored]:
    """Write files of a set below a folder, unpacked; all of them and the index, unless some are named.

    Raises `ArtifactDamaged`, and `UsageError` for a name that is not in the set, and for a file that is there already,
    before anything is written.
    """
    found = open_set(store, prefix, index_sha256)
    content, archived = found.index, found.files
    files: dict[str, ArchivedFile | bytes] = {file.name: file for file in archived}
    files[INDEX_NAME] = content
    if unknown := sorted(set(names) - files.keys()):
        raise UsageError(f"{prefix} has no {', '.join(unknown)}; it has {', '.join(sorted(files))}")
    wanted = {name: folder / name for name in sorted(names or files)}
    for path in wanted.values():
        _check(path, folder, overwrite=overwrite)
    return [_restore(store, prefix, name, files[name], path, archived) for name, path in wanted.items()]


def _check(path: Path, folder: Path, *, overwrite: bool) -> None:
    """Names were checked when the index was read; links in the folder may still lead out of it."""
    for parent in path.parents:
        if parent == folder:
            break
        if parent.is_symlink():
            raise UsageError(f"{parent} is a link, and {path} may be anywhere; take it away, or choose another folder")
    if path.is_dir() and not path.is_symlink():
        raise UsageError(f"{path} is a folder; choose another one with --to")
    if not overwrite and (path.exists() or path.is_symlink()):
        raise UsageError(f"{path} is there already; choose another folder with --to, or overwrite it with --force")


def _restore(
    store: Store,
    prefix: str,
    name: str,
    file: ArchivedFile | bytes,
    path: Path,
    archived: Sequence[ArchivedFile],
) -> Restored:
    part = path.parent / f".part-{uuid4().hex}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("xb") as target:
                if isinstance(file, bytes):
                    target.write(file)
                else:
                    read(store, prefix, file, target.write, archived)
                size = target.tell()
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as fault:
        raise UsageError(f"{path} cannot be written: {fault.strerror or fault}") from fault
    return Restored(name, path, size)
