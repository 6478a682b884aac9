"""A log that has no end takes no end of room: of one that is too long, the middle is left out and counted."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

# Of each log of a run, unless somebody says otherwise.
MOST_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class Cut:
    """What was left out of a log."""

    lines: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.lines} lines ({self.bytes} bytes) were left out here: the log was longer than it may be"


class RotatedLog:
    """Lines on their way into a file of bounded size: the first half of the room, then the last lines.

    The last lines are written to two files beside it in turn, and joined to it at the end with a line between them,
    which `tell` makes, that says what is missing. Memory stays the same, however long the log gets.
    """

    def __init__(self, path: Path, most_bytes: int, tell: Callable[[Cut], bytes]) -> None:
        self.path = path
        self._half = max(1, most_bytes // 2)
        self._tell = tell
        self._file = path.open("ab")
        self._room = self._half - self._file.tell()
        self._older: _Segment | None = None
        self._newer: _Segment | None = None
        self._cut_lines = self._cut_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether lines may still be added."""
        return not self._file.closed

    def write(self, line: bytes) -> None:
        """Add a line, or a part of one. Raises `OSError` where the disk does."""
        if self._newer is None:
            if len(line) <= self._room:
                self._room -= len(line)
                self._file.write(line)
                return
            self._newer = _Segment(self.path.with_name(f".{self.path.name}.1"))
        if self._newer.bytes + len(line) > self._half // 2:
            if self._older:
                self._cut_lines += self._older.lines
                self._cut_bytes += self._older.bytes
                self._older.remove()
            self._older, free = self._newer, ".1" if self._newer.path.suffix == ".2" else ".2"
            self._newer = _Segment(self.path.with_name(f".{self.path.name}{free}"))
        self._newer.write(line)

    def close(self) -> Cut | None:
        """End the file; gives what was left out of it, if anything was. Nothing is written after that."""
        cut = Cut(self._cut_lines, self._cut_bytes) if self._cut_bytes else None
        if not self._file.closed:
            if cut:
                self._file.write(self._tell(cut))
            for segment in (self._older, self._newer):
                if segment:
                    segment.move_to(self._file)
            self._file.close()
        return cut


class _Segment:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = self.bytes = 0
        self._file = path.open("wb")

    def write(self, line: bytes) -> None:
        self._file.write(line)
        self.lines += line.count(b"\n")
        self.bytes += len(line)

    def move_to(self, target: IO[bytes]) -> None:
        self._file.close()
        with self.path.open("rb") as source:
            shutil.copyfileobj(source, target)
        self.path.unlink()

    def remove(self) -> None:
        self._file.close()
        self.path.unlink()
