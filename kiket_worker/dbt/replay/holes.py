"""Texts with holes: what dbt has said of one tenant, with a hole wherever it named that tenant.

A probe's names and numbers are random, so that wherever they stand in a text, dbt has put them there: a search finds
them all and nothing else. A real tenant's are never searched for, only filled in.
"""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

_OPEN, _CLOSE = "\x01", "\x02"
_HOLE = re.compile(f"{_OPEN}([^{_CLOSE}]+){_CLOSE}")
# dbt-postgres names an index by a hash that has the time in it, and a temporary relation by the time of day.
_INDEX = re.compile(r'(index if not exists\s+")[0-9a-f]{32}(")', re.IGNORECASE)
_STAMP = re.compile(r"(__dbt_tmp)\d{12}(?!\d)")

SCHEMA = "schema"
INDEX = "index"
STAMP = "stamp"
# The name of a relation in the tenant's schema, which is filled in with the name that it has at the moment.
RELATION = "relation:"
_NUMBER = "number:"


def hole(name: str) -> str:
    """The mark of a hole."""
    return f"{_OPEN}{name}{_CLOSE}"


def with_holes(text: str, values: Mapping[str, str]) -> str:
    """The text with a hole for each of the values, longer ones first, and for the names that dbt makes of the time."""
    for name in sorted(values, key=lambda name: -len(values[name])):
        text = text.replace(values[name], hole(name))
    text = _INDEX.sub(rf"\g<1>{hole(INDEX)}\g<2>", text)
    return _STAMP.sub(rf"\g<1>{hole(STAMP)}", text)


def deep_with_holes(value: Any, values: Mapping[str, str]) -> Any:
    """The same for all texts and names inside of JSON, and for numbers, which `as_json` writes as such again."""
    if isinstance(value, str):
        return with_holes(value, values)
    if isinstance(value, int) and not isinstance(value, bool):
        return next((hole(_NUMBER + name) for name, number in values.items() if number == str(value)), value)
    if isinstance(value, list | tuple):
        return [deep_with_holes(item, values) for item in value]
    if isinstance(value, dict):
        return {with_holes(name, values): deep_with_holes(item, values) for name, item in value.items()}
    return value


def words(value: Any) -> str | None:
    """A value of the database in words, the same for every client that reads it as Python's own types."""
    return None if value is None else str(value)


def as_json(value: Any) -> str:
    """JSON with holes. What fills one inside of a text has to be written as JSON writes texts, without the quotes."""
    text = json.dumps(value).replace("\\u0001", _OPEN).replace("\\u0002", _CLOSE)
    return re.sub(f'"{_OPEN}{_NUMBER}([^{_CLOSE}]+){_CLOSE}"', rf"{_OPEN}\g<1>{_CLOSE}", text)


def holes_of(text: str) -> set[str]:
    """The names of a text's holes."""
    return set(_HOLE.findall(text))


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with its holes filled. Raises `KeyError` for a hole without a value."""
    parts = _parts(text)
    if len(parts) == 1:
        return text
    return "".join(part if position % 2 == 0 else values[part] for position, part in enumerate(parts))


def deep_filled(value: Any, values: Mapping[str, str]) -> Any:
    """The same for all texts inside of JSON; a number that is a hole is a number again."""
    if isinstance(value, str):
        if value.startswith(_OPEN + _NUMBER):
            return int(values[value[len(_OPEN + _NUMBER) : -len(_CLOSE)]])
        return filled(value, values)
    if isinstance(value, list | tuple):
        return [deep_filled(item, values) for item in value]
    if isinstance(value, dict):
        return {name: deep_filled(item, values) for name, item in value.items()}
    return value


@lru_cache(maxsize=8192)
def _parts(text: str) -> tuple[str, ...]:
    """Text and names of holes by turns, a text first."""
    return tuple(_HOLE.split(text))
