"""An archived dbt log, page by page and through a filter: however long it is, little of it is in memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from kiket_worker.dbt.results import read_event

PAGE_LINES = 200
# So many lines are looked through for one page; who wants the rest asks for the next.
MOST_LINES_READ = 20_000
# A longer line is read, and shown, as far as this.
_MOST_LINE_BYTES = 1024 * 1024
_MOST_CHARACTERS = 4000


class Level(StrEnum):
    """How much a line matters, the least first."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


_RANKS = {level: rank for rank, level in enumerate(Level)}


@dataclass(frozen=True)
class LogFilter:
    """Which lines are wanted: of this level or above, of the model with this id or name, with this text in any case."""

    level: Level = Level.DEBUG
    model: str = ""
    text: str = ""

    def takes(self, line: "LogLine") -> bool:
        """Whether a line is wanted."""
        return (
            _RANKS[line.level] >= _RANKS[self.level]
            and (not self.model or self.model in {line.model_id, line.model_id.rpartition(".")[2]})
            and self.text.casefold() in line.text.casefold()
        )


@dataclass(frozen=True)
class LogLine:
    """A line of the log; lines are counted from 1. `at` is the time as dbt has written it, empty where it has none.

    `model_id` is empty for a line of none.
    """

    number: int
    at: str
    level: Level
    model_id: str
    text: str
    is_cut: bool = False


@dataclass(frozen=True)
class LogPage:
    """Lines that were wanted. `after` leads to the next page: the number of the last line that was looked at.

    It is None at the log's end.
    """

    lines: tuple[LogLine, ...]
    after: int | None


def page_of(
    pieces: Iterable[bytes],
    wanted: LogFilter,
    *,
    after: int = 0,
    most_lines: int = PAGE_LINES,
    most_lines_read: int = MOST_LINES_READ,
) -> LogPage:
    """The wanted lines that follow the line `after`. `pieces` are the log's bytes, read as far as they are needed."""
    found: list[LogLine] = []
    number = after
    for number, raw in _numbered(pieces, after):
        # Looked at only when the next line is there: else a page that is just full would lead to an empty one.
        if len(found) == most_lines or number > after + most_lines_read:
            return LogPage(tuple(found), number - 1)
        line = _read(number, raw)
        if line.text and wanted.takes(line):
            found.append(line)
    return LogPage(tuple(found), None)


def _read(number: int, raw: bytes) -> LogLine:
    event = read_event(raw)
    if event is None:  # What dbt has printed besides.
        return _line(number, "", Level.INFO, "", raw.decode("utf-8", "replace"))
    info, node = event["info"], event["data"].get("node_info")
    level = info.get("level")
    return _line(
        number,
        _text(info.get("ts"))[:40],
        Level(level) if level in _RANKS else Level.INFO,
        _text(node.get("unique_id"))[:500] if isinstance(node, dict) else "",
        _text(info.get("msg")),
    )


def _line(number: int, at: str, level: Level, model_id: str, text: str) -> LogLine:
    text = text.strip("\r\n ")
    return LogLine(number, at, level, model_id, text[:_MOST_CHARACTERS], len(text) > _MOST_CHARACTERS)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _numbered(pieces: Iterable[bytes], after: int) -> Iterator[tuple[int, bytes]]:
    """The lines that follow, with their numbers. Those before are counted and not made."""
    number, begun = 0, b""
    for piece in pieces:
        start = 0
        if number < after:
            breaks = piece.count(b"\n")
            if number + breaks < after:
                number += breaks
                continue
            while number < after:
                start = piece.index(b"\n", start) + 1
                number += 1
        while (end := piece.find(b"\n", start)) >= 0:
            number += 1
            yield number, _bounded(begun, piece[start:end])
            begun, start = b"", end + 1
        begun = _bounded(begun, piece[start:])
    if begun:
        yield number + 1, begun


def _bounded(begun: bytes, more: bytes) -> bytes:
    return begun + more[: max(0, _MOST_LINE_BYTES - len(begun))]
