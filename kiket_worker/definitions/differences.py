"""What a version of an organisation's definitions has changed: models and other files, and their texts line by line."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from kiket_worker.dbt.overlay import Kind, Overlay, kind_of

MOST_LINES = 600
# To compare texts takes time by the square of their lines: of longer ones, none is compared.
_MOST_COMPARED_LINES = 1500
_MOST_LINE_CHARACTERS = 500
_CONTEXT = 3


class How(StrEnum):
    """What became of a file."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


@dataclass(frozen=True)
class Change:
    """A file that is not as it was. `name` is a model's where the file is one, else the path."""

    how: How
    repository: str
    path: str
    kind: Kind
    name: str

    @property
    def is_model(self) -> bool:
        """Whether it is a model or a seed itself, and not what describes some."""
        return self.kind in {Kind.MODEL, Kind.SEED} and self.path.endswith((".sql", ".csv"))


@dataclass(frozen=True)
class DiffLine:
    """A line of a unified diff. `mark` is `+`, `-`, `@` for where it is, or empty for what is the same."""

    mark: str
    text: str


@dataclass(frozen=True)
class TextDiff:
    """A file's unified diff. Where the texts are too long to be compared, or it is itself, `fault` says so."""

    lines: tuple[DiffLine, ...]
    fault: str = ""


def changes(before: Mapping[str, Overlay], after: Mapping[str, Overlay]) -> list[Change]:
    """What has changed from some overlays, by their names, to others: models first, then by repository and path."""
    found = []
    for repository in sorted(before.keys() | after.keys()):
        old, new = (side[repository].files if repository in side else {} for side in (before, after))
        for path in sorted(old.keys() | new.keys()):
            kind = kind_of(path)
            if kind is None or old.get(path) == new.get(path):
                continue
            how = How.ADDED if path not in old else How.REMOVED if path not in new else How.CHANGED
            change = Change(how, repository, path, kind, path)
            if change.is_model:
                name = path.rpartition("/")[2].rpartition(".")[0]
                change = Change(how, repository, path, kind, name)
            found.append(change)
    return sorted(found, key=lambda change: not change.is_model)


def text_diff(old: str, new: str) -> TextDiff:
    """Compare two texts line by line, within bounds."""
    before, after = old.splitlines(), new.splitlines()
    # What both begin and end with costs nothing, however long it is.
    start = _same(before, after)
    end = _same(before[start:][::-1], after[start:][::-1])
    middle = (before[start : len(before) - end], after[start : len(after) - end])
    if max(map(len, middle)) > _MOST_COMPARED_LINES:
        removed, added = map(len, middle)
        return TextDiff((), f"Too long to be compared here: {removed} lines have become {added}.")
    first, last = max(0, start - _CONTEXT), max(0, end - _CONTEXT)
    old_part, new_part = before[first : len(before) - last], after[first : len(after) - last]
    lines = list(_unified(old_part, new_part, first))
    is_long = len(lines) > MOST_LINES
    return TextDiff(tuple(lines[:MOST_LINES]), f"The first {MOST_LINES} lines are shown." if is_long else "")


def _unified(before: list[str], after: list[str], skipped: int) -> Iterator[DiffLine]:
    matcher = difflib.SequenceMatcher(None, before, after)
    for group in matcher.get_grouped_opcodes(_CONTEXT):
        first, last = group[0], group[-1]
        old = _range(skipped + first[1], last[2] - first[1])
        new = _range(skipped + first[3], last[4] - first[3])
        yield DiffLine("@", f"@@ -{old} +{new} @@")
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                yield from (DiffLine("", _cut(line)) for line in before[i1:i2])
                continue
            yield from (DiffLine("-", _cut(line)) for line in before[i1:i2])
            yield from (DiffLine("+", _cut(line)) for line in after[j1:j2])


def _range(start: int, length: int) -> str:
    # As unified diffs count: from 1, and the line before where there is none.
    return f"{start + 1 if length else start},{length}"


def _same(before: list[str], after: list[str]) -> int:
    """How many lines two texts have in common at their beginnings."""
    count = 0
    for old, new in zip(before, after, strict=False):
        if old != new:
            break
        count += 1
    return count


def _cut(line: str) -> str:
    return line if len(line) <= _MOST_LINE_CHARACTERS else line[: _MOST_LINE_CHARACTERS - 1] + "…"
