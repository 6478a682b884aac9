"""YAML of definition repositories, read with the line of each value, and without YAML's traps."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

# Beyond these a document is not somebody's dashboard, but an attempt to use up memory or the stack.
_MOST_DEPTH = 40
_MOST_NODES = 50_000
# Python takes the square of their length to write long ones, and refuses to at 4,300 digits.
_MOST_DIGITS = 100

_NO_KEYS: dict[str, int] = {}

# libyaml's: Python's own reads a hundred kilobytes a second, which is minutes for a repository of the largest size.
_Loader = yaml.CSafeLoader
_TAG = "tag:yaml.org,2002:"
_SCALARS = {_TAG + name for name in ("null", "bool", "int", "float", "str", "timestamp")}


class InvalidYaml(ValueError):
    """A document that is not read; `rule` is the name of the rule that it breaks."""

    def __init__(self, rule: str, line: int, message: str) -> None:
        super().__init__(message)
        self.rule = rule
        self.line = line


@dataclass(frozen=True, slots=True)
class Located:
    """A value with the line where it stands, counted from 1; lists and mappings hold others.

    `start` and `end` are where its text lies in the document.
    """

    line: int
    content: "bool | int | float | str | list[Located] | dict[str, Located] | None"
    key_lines: dict[str, int]
    start: int
    end: int

    def plain(self) -> Any:
        """The value as plain Python."""
        if isinstance(self.content, list):
            return [item.plain() for item in self.content]
        if isinstance(self.content, dict):
            return {key: item.plain() for key, item in self.content.items()}
        return self.content

    def get(self, key: str) -> "Located | None":
        """What a mapping has under a key; None where it is none, or has none."""
        return self.content.get(key) if isinstance(self.content, dict) else None

    def items(self) -> "list[Located]":
        """The items of a list; of anything else, none."""
        return self.content if isinstance(self.content, list) else []

    def line_of(self, *path: str | int) -> int:
        """The line of what a path of keys and positions leads to, as far as it leads."""
        here, line = self, self.line
        for step in path:
            if isinstance(here.content, dict) and isinstance(step, str) and step in here.content:
                line, here = here.key_lines[step], here.content[step]
            elif isinstance(here.content, list) and isinstance(step, int) and step < len(here.content):
                here = here.content[step]
                line = here.line
            else:
                break
        return line


def read_yaml(text: str) -> Located:
    """The one document of a text. Raises `InvalidYaml`.

    Anchors are refused, because a few lines of them can stand for gigabytes; tags too, and keys that appear twice, of
    which YAML silently takes one.
    """
    try:
        return _Reader(text).document()
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        words = " ".join(str(word) for word in (fault.context, fault.problem) if word)
        # What is missing at the end is told at the last line that has something.
        line = min(mark.line, text.rstrip().count("\n")) + 1 if mark else 1
        raise InvalidYaml("yaml-syntax", line, f"this is no YAML: {words}") from None
    except yaml.YAMLError as fault:
        raise InvalidYaml("yaml-syntax", 1, f"this is no YAML: {' '.join(str(fault).split())}") from None


class _Reader:
    """Builds values from events as they come, so that no more is ever built than is let through."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=_Loader)
        self._count = 0
        self._resolver: Any = Resolver()
        self._constructor = SafeConstructor()

    def document(self) -> Located:
        self._next()  # The stream begins.
        if isinstance(self._next(), yaml.StreamEndEvent):
            return Located(1, None, {}, 0, 0)
        value = self._value(self._next(), 1)
        self._next()  # The document ends.
        if not isinstance(event := self._next(), yaml.StreamEndEvent):
            raise InvalidYaml("yaml-syntax", _line(event), "a second document begins here: one file has one")
        return value

    def _next(self) -> Any:
        event = next(self._events)
        self._count += 1
        if self._count > _MOST_NODES:
            raise InvalidYaml("yaml-size", _line(event), f"the document has more than {_MOST_NODES} values")
        return event

    def _value(self, event: Any, depth: int) -> Located:
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            raise InvalidYaml("yaml-anchor", _line(event), "anchors and aliases are not read")
        if depth > _MOST_DEPTH:
            raise InvalidYaml("yaml-size", _line(event), f"values are nested deeper than {_MOST_DEPTH} levels")
        if isinstance(event, yaml.ScalarEvent):
            return _located(event, event, self._scalar(event))
        kind = "seq" if isinstance(event, yaml.SequenceStartEvent) else "map"
        if event.tag not in {None, "!", _TAG + kind}:
            raise _unread_tag(event)
        return self._list(event, depth) if kind == "seq" else self._mapping(event, depth)

    def _list(self, start: Any, depth: int) -> Located:
        items = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._value(event, depth + 1))
        return _located(start, event, items)

    def _mapping(self, start: Any, depth: int) -> Located:
        content: dict[str, Located] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key, line = self._key(event), _line(event)
            if key in content:
                raise InvalidYaml(
                    "yaml-duplicate-key", line, f"the key {key[:80]!r} stands twice, first in line {lines[key]}"
                )
            lines[key] = line
            content[key] = self._value(self._next(), depth + 1)
        return _located(start, event, content, lines)

    def _key(self, event: Any) -> str:
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            raise InvalidYaml("yaml-anchor", _line(event), "anchors and aliases are not read")
        if not isinstance(event, yaml.ScalarEvent) or event.value == "<<":
            raise InvalidYaml("yaml-syntax", _line(event), "a key is a word, and nothing is merged")
        if event.tag not in {None, "!", f"{_TAG}str"}:
            raise _unread_tag(event)
        return str(event.value)

    def _scalar(self, event: Any) -> Any:
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._resolver.resolve(yaml.ScalarNode, event.value, event.implicit)
        if tag not in _SCALARS:
            raise _unread_tag(event)
        kind = tag.removeprefix(_TAG)
        if kind in {"str", "timestamp"}:
            return event.value  # A date stays as it was written.
        shown = event.value if len(event.value) <= _MOST_DIGITS else f"{event.value[:20]}…"
        if kind in {"int", "float"} and len(event.value) > _MOST_DIGITS:
            message = f"the number {shown} has more than {_MOST_DIGITS} digits: put it in quotes if it is a text"
            raise InvalidYaml("yaml-syntax", _line(event), message)
        try:
            return SafeConstructor.yaml_constructors[tag](self._constructor, yaml.ScalarNode(tag, event.value))
        except (ValueError, OverflowError, LookupError, yaml.YAMLError):  # Of a tag that the value does not fit.
            raise InvalidYaml("yaml-syntax", _line(event), f"{shown!r} cannot be read as {kind}") from None


def _located(first: Any, last: Any, content: Any, lines: dict[str, int] = _NO_KEYS) -> Located:
    return Located(_line(first), content, lines, first.start_mark.index, last.end_mark.index)


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _unread_tag(event: Any) -> InvalidYaml:
    return InvalidYaml("yaml-syntax", _line(event), f"the tag {event.tag} is not read: write the value plainly")
