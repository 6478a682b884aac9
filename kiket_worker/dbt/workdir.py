"""A folder for an attempt, or for a bundle. It goes with it, or, when its worker is killed, before the next is made."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "kiket-run-"


@contextmanager
def workdir(prefix: str = _PREFIX) -> Iterator[Path]:
    """A folder of one's own until the block ends. Folders that killed workers have left on this machine are removed.

    They are known by the prefix of their names.

    Whose worker lives is told by a lock, which the kernel gives back however its holder ends. A pid would not tell: in
    containers, the next worker often has the same.
    """
    _sweep(Path(tempfile.gettempdir()), prefix)
    folder, lock = _locked_folder(prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _locked_folder(prefix: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix))
        # Between these two lines another worker may take the folder for one that was left, and remove it.
        with suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.fstat(lock).st_nlink:
                return folder, lock
            os.close(lock)


def _sweep(parent: Path, prefix: str) -> None:
    for folder in parent.glob(f"{prefix}*"):
        # Gone already, another user's, or in use.
        with suppress(OSError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
