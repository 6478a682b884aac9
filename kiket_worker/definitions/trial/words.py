"""What dbt and Postgres say of a model, in an author's terms: the words, and the line that they are about."""

import re
from collections.abc import Mapping

_LINE = re.compile(r"^\s*LINE \d+: (?P<text>.*)$", re.MULTILINE)
_HEADING = re.compile(r"^(\w+ )*Error( in [^\n]*)?\n", re.MULTILINE)
_QUOTED = re.compile(r'"([^"\n]+)"')
_OF_OTHERS = re.compile(r"^\s*(compiled code at .*|> in macro .*|> called by .*|\^\s*|LINE \d+: .*)$", re.MULTILINE)
_MOST_CHARACTERS = 500


def words_of(message: str, places: Mapping[str, str]) -> str:
    """The message in one line, with the author's own paths, and without what says where dbt has compiled it."""
    text = _OF_OTHERS.sub("", _HEADING.sub("", message, count=1))
    for place, path in places.items():
        text = text.replace(place, path)
    return " ".join(text.split())[:_MOST_CHARACTERS]


def line_of(message: str, source: str) -> int:
    """The line of the model's own text that Postgres points at, or that has the name that it quotes; else the first."""
    lines = source.splitlines()
    if found := _LINE.search(message):
        # Of a long line, Postgres shows a part.
        text = found["text"].strip().removeprefix("...").removesuffix("...").strip()
        for number, line in enumerate(lines, 1):
            if text and (text in line or (line.strip() and line.strip() in text)):
                return number
    if found := re.search(r"^\s*line (\d+)$", message, re.MULTILINE):
        return min(int(found[1]), max(1, len(lines)))
    for name in _QUOTED.findall(message):
        for number, line in enumerate(lines, 1):
            if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", line):
                return number
    return 1
