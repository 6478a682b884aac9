"""YAML of definition repositories, read with the line of each value, and without YAML's traps."""

from dataclasses import dataclass
from typing import Any

import yaml

# Beyond these a document is not somebody's dashboard, but an attempt to use up memory or the stack.
_MOST_DEPTH = 40
_MOST_NODES = 50_000

_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "timestamp", "seq", "map")}


class InvalidYaml(ValueError):
    """A document that is not read; `rule` is the name of the rule that it breaks."""

    def __init__(self, rule: str, line: int, message: str) -> None:
        super().__init__(message)
        self.rule = rule
        self.line = line


@dataclass(frozen=True)
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
        _check_events(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return Located(1, None, {}, 0, 0) if node is None else _located(node, yaml.SafeLoader(""))
    except InvalidYaml:
        raise
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        words = " ".join(str(word) for word in (fault.context, fault.problem) if word)
        raise InvalidYaml("yaml-syntax", mark.line + 1 if mark else 1, f"this is no YAML: {words}") from None
    except yaml.YAMLError as fault:
        raise InvalidYaml("yaml-syntax", 1, f"this is no YAML: {' '.join(str(fault).split())}") from None
    except (ValueError, LookupError, AttributeError, OverflowError, TypeError) as fault:
        # Of PyYAML, for tags and escapes that no value fits.
        raise InvalidYaml("yaml-syntax", 1, f"a value of this document cannot be read: {fault}") from None


def _check_events(text: str) -> None:
    """Look through the document before anything of it is built."""
    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise InvalidYaml("yaml-anchor", line, "anchors and aliases are not read")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MOST_DEPTH:
            raise InvalidYaml("yaml-size", line, f"values are nested deeper than {_MOST_DEPTH} levels")
        if number > _MOST_NODES:
            raise InvalidYaml("yaml-size", line, f"the document has more than {_MOST_NODES} values")


def _located(node: yaml.Node, loader: yaml.SafeLoader) -> Located:
    line = node.start_mark.line + 1
    keys: dict[str, int] = {}
    content: Any
    if node.tag not in _TAGS:
        raise InvalidYaml("yaml-syntax", line, f"the tag {node.tag} is not read: write the value plainly")
    if isinstance(node, yaml.MappingNode):
        content = {}
        for key_node, value in node.value:
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else None
            key_line = key_node.start_mark.line + 1
            if key is None or key == "<<":
                raise InvalidYaml("yaml-syntax", key_line, "a key is a word, and nothing is merged")
            if key in content:
                raise InvalidYaml(
                    "yaml-duplicate-key", key_line, f"the key {key!r} stands twice, first in line {keys[key]}"
                )
            keys[key] = key_line
            content[key] = _located(value, loader)
    elif isinstance(node, yaml.SequenceNode):
        content = [_located(item, loader) for item in node.value]
    else:
        try:
            content = loader.construct_object(node)
        except (ValueError, OverflowError) as fault:  # A date such as 2026-13-45.
            raise InvalidYaml("yaml-syntax", line, f"the value {node.value!r} cannot be read: {fault}") from None
        if not isinstance(content, bool | int | float | str | None):
            content = node.value  # A date: it stays as it was written.
    return Located(line, content, keys, node.start_mark.index, node.end_mark.index)
