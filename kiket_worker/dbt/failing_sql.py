"""Where a model has failed: the SQL that dbt made of it, with the lines that Postgres points at."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_FAILED = frozenset({"error", "fail", "runtime error", "partial success"})
_POINTED_AT = re.compile(r"^\s*LINE \d+: (?P<text>.*)$", re.MULTILINE)
# dbt, of Jinja that it cannot render.
_LINE_OF_SOURCE = re.compile(r"^\s*line (\d+)\b", re.MULTILINE)
_PLACE = re.compile(r"\bError in \w+ \S+ \((?P<path>[^()\n]+)\)")
_QUOTED = re.compile(r'"([^"\n]+)"')
_MOST_NODES = 20
_MOST_CHARACTERS = 4000
# Of a longer statement, the lines around the one that failed.
_AROUND = 150


@dataclass(frozen=True)
class SqlLine:
    """A line, counted from 1. `is_failing`: Postgres points at it, or at another that reads the same."""

    number: int
    text: str
    is_failing: bool


@dataclass(frozen=True)
class FailingSql:
    """A model, or another node, that has failed. `is_compiled` is false for SQL as its author wrote it.

    `lines` is empty where there is no SQL, and a part of it where it is long: then `is_part`.
    """

    node_id: str
    message: str
    path: str
    lines: tuple[SqlLine, ...]
    is_compiled: bool
    is_part: bool = False


def failing_sql(results: bytes, manifest: bytes | None) -> list[FailingSql]:
    """The nodes that failed by a `run_results.json`, at most twenty. A manifest helps where nothing was compiled.

    What is not of dbt's shape is passed over. Format: https://schemas.getdbt.com/dbt/run-results/v6.json
    """
    found = list(_failed(_document(results)))
    sources: dict[str, Any] = {}
    if manifest is not None and any(not entry.get("compiled_code") for entry in found):
        nodes = _document(manifest).get("nodes")
        sources = nodes if isinstance(nodes, dict) else {}
    return [_of(entry, sources.get(entry["unique_id"])) for entry in found]


def failing_lines(message: str, sql: str) -> frozenset[int]:
    """The numbers of the lines that a message is about; more than one where several read as what Postgres shows.

    Postgres counts the lines of the whole statement that dbt makes around the model, so that its number does not help;
    the text that it shows does. Where it shows none, a name that it quotes is looked for.
    """
    lines = sql.splitlines()
    if pointed := _POINTED_AT.search(message):
        # Of a long line, Postgres shows a part.
        text = pointed["text"].strip().removeprefix("...").removesuffix("...").strip()
        same = frozenset(number for number, line in enumerate(lines, 1) if text and line.strip() == text)
        return same or frozenset(number for number, line in enumerate(lines, 1) if text and text in line)
    if told := _LINE_OF_SOURCE.search(message):
        return frozenset({int(told[1])} & set(range(1, len(lines) + 1)))
    for name in _QUOTED.findall(message):
        whole = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
        if named := [number for number, line in enumerate(lines, 1) if whole.search(line)]:
            return frozenset(named[:1])
    return frozenset()


def _failed(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    entries = document.get("results")
    count = 0
    for entry in entries if isinstance(entries, list) else ():
        if (
            isinstance(entry, dict)
            and entry.get("status") in _FAILED
            and isinstance(entry.get("unique_id"), str)
            and count < _MOST_NODES
        ):
            count += 1
            yield entry


def _of(entry: dict[str, Any], source: Any) -> FailingSql:
    message = _text(entry.get("message"))
    compiled = _text(entry.get("compiled_code"))
    sql = compiled or (_text(source.get("raw_code")) if isinstance(source, dict) else "")
    path = _text(source.get("original_file_path")) if isinstance(source, dict) else ""
    if not path and (place := _PLACE.search(message)):
        path = place["path"]
    failing = failing_lines(message, sql)
    shown = [SqlLine(number, text[:_MOST_CHARACTERS], number in failing) for number, text in _numbered(sql)]
    middle = min(failing, default=1)
    part = [line for line in shown if abs(line.number - middle) <= _AROUND]
    return FailingSql(
        entry["unique_id"], message[:_MOST_CHARACTERS], path, tuple(part), bool(compiled), len(part) < len(shown)
    )


def _numbered(sql: str) -> Iterator[tuple[int, str]]:
    """The lines, without the empty ones at both ends, which Jinja leaves."""
    lines = list(enumerate(sql.splitlines(), 1))
    while lines and not lines[0][1].strip():
        del lines[0]
    while lines and not lines[-1][1].strip():
        del lines[-1]
    yield from lines


def _document(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
