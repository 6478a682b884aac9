"""Reading parts of a file: what is not as it should be becomes a problem, and reading goes on."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from rapidfuzz import fuzz, process

from kiket_worker.definitions.dashboards import rules
from kiket_worker.definitions.problem import Problem, Rule, Severity
from kiket_worker.definitions.yaml_document import Located
from kiket_worker.ledger.database import is_storable

# Postgres cuts longer names.
MOST_NAME_BYTES = 63
_MOST_ID_CHARACTERS = 100
_MOST_TEXT_CHARACTERS = 2_000
# More of one file nobody reads; each costs a look for names that are near.
_MOST_PROBLEMS = 500
_LEAST_LIKENESS = 70

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KINDS = {bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "a list", dict: "a mapping"}


def quoted(text: str) -> str:
    """A name of the file in a message: short, and with nothing that is not printed."""
    return repr(text if len(text) <= 80 else text[:79] + "…")


def did_you_mean(name: str, known: Collection[str]) -> str:
    """The end of a message that names what is near, or nothing."""
    if len(name) > 2 * MOST_NAME_BYTES:
        return ""
    found = process.extractOne(name, list(known), scorer=fuzz.ratio, score_cutoff=_LEAST_LIKENESS)
    return f"; did you mean {quoted(found[0])}?" if found else ""


def kind_of(value: Located | None) -> str:
    """What a value is, in words."""
    return "nothing" if value is None or value.content is None else _KINDS[type(value.content)]


def is_plain_name(name: str) -> bool:
    """Whether a name can be an alias or a parameter: conditions and references have to tell it from other text."""
    return bool(_PLAIN_NAME.fullmatch(name)) and len(name) <= MOST_NAME_BYTES


@dataclass
class Reading:
    """One file, and the problems that were found in it."""

    file: str
    problems: list[Problem] = field(default_factory=list)

    def add(self, rule: Rule, line: int, message: str, hint: str = "") -> None:
        """Note a problem, unless there are too many."""
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(rule.problem(self.file, line, message, hint))
        elif len(self.problems) == _MOST_PROBLEMS:
            self.problems.append(
                rules.SIZE.problem(self.file, line, f"more than {_MOST_PROBLEMS} problems: the rest is not listed")
            )

    @property
    def errors(self) -> int:
        """How many errors were noted."""
        return sum(problem.severity is Severity.ERROR for problem in self.problems)

    @property
    def is_full(self) -> bool:
        """Whether no more problems are noted."""
        return len(self.problems) > _MOST_PROBLEMS

    def mapping(self, value: Located | None, line: int, what: str, known: Collection[str] | None = None) -> bool:
        """Whether a value is a mapping; keys that are not known are warned of."""
        if value is None or not isinstance(value.content, dict):
            self.add(rules.SHAPE, line, f"{what} is {kind_of(value)} and not a mapping", "write {key: value}")
            return False
        for key in value.content if known is not None else ():
            if known is not None and key not in known:
                self.add(
                    rules.KEY,
                    value.key_lines[key],
                    f"{what} has the key {quoted(key)}, which is not known{did_you_mean(key, known)}",
                    f"it is ignored; known are {', '.join(known)}",
                )
        return True

    def items(self, value: Located | None, line: int, what: str, most: int) -> Iterator[Located]:
        """The items of a list that may be missing, and not too long."""
        if value is None or value.content is None:
            return
        if not isinstance(value.content, list):
            self.add(rules.SHAPE, line, f"{what} is {kind_of(value)} and not a list", "write [first, second]")
        elif self._fits(len(value.content), line, what, most):
            yield from value.content

    def entries(self, value: Located | None, line: int, what: str, most: int) -> Iterator[tuple[str, Located, int]]:
        """The keys, values and lines of a mapping that may be missing, and not too long."""
        if value is None or value.content is None or not self.mapping(value, line, what):
            return
        assert isinstance(value.content, dict)
        if self._fits(len(value.content), line, what, most):
            for key, item in value.content.items():
                yield key, item, value.key_lines[key]

    def named(
        self, owner: Located, key: str, name_key: str, what: str, most: int
    ) -> Iterator[tuple[Located | None, Located, int]]:
        """The names, values and lines of a mapping of names, or of a list of mappings that have a name under a key."""
        stated, line, named = owner.get(key), owner.line_of(key), f"{key!r} of {what}"
        if stated is not None and isinstance(stated.content, dict):
            for name, item, at in self.entries(stated, line, named, most):
                yield Located(at, name, {}, 0, 0), item, at
        else:
            for item in self.items(stated, line, named, most):
                if self.mapping(item, item.line, f"an entry of {named}"):
                    yield item.get(name_key), item, item.line

    def _fits(self, count: int, line: int, what: str, most: int) -> bool:
        if count > most:
            self.add(rules.SIZE, line, f"{what} has {count} entries; at most {most} are read", "make it several")
        return count <= most

    def text(self, owner: Located, key: str, what: str, *, required: bool = False) -> str | None:
        """A text under a key, None where there is none."""
        value, line = owner.get(key), owner.line_of(key)
        if value is None or value.content is None:
            if required:
                self.add(rules.SHAPE, line, f"{what} has no {key!r}", f"add `{key}: …`")
            return None
        if not isinstance(value.content, str):
            self.add(rules.SHAPE, line, f"{key!r} of {what} is {kind_of(value)} and not a text", "put it in quotes")
            return None
        if len(value.content) > _MOST_TEXT_CHARACTERS:
            self.add(rules.SIZE, line, f"{key!r} of {what} has more than {_MOST_TEXT_CHARACTERS} characters")
            return None
        if not is_storable(value.content):
            self.add(rules.NAME, line, f"{key!r} of {what} has a character that cannot be stored")
            return None
        return value.content

    def identity(self, owner: Located, key: str, what: str, *, required: bool = True) -> str | None:
        """An id under a key."""
        found = self.text(owner, key, what, required=required)
        return None if found is None else self.as_identity(found, owner.line_of(key), f"{key!r} of {what}")

    def as_identity(self, text: str, line: int, what: str) -> str | None:
        """A text where it is an id: what can stand in an address."""
        if _ID.fullmatch(text) and len(text) <= _MOST_ID_CHARACTERS:
            return text
        self.add(
            rules.NAME,
            line,
            f"{what} is {quoted(text)}, which cannot be an id",
            f"use at most {_MOST_ID_CHARACTERS} letters, digits, '.', '_' and '-', the first a letter or digit",
        )
        return None

    def column(self, value: Located | None, line: int, what: str) -> str | None:
        """The name of a column or a model: a text that Postgres can hold."""
        if value is None or not isinstance(value.content, str) or not value.content:
            named = "empty" if value is not None and value.content == "" else kind_of(value)
            self.add(rules.SHAPE, line, f"{what} is {named} and not a name", "write a name, as a text")
            return None
        if not is_storable(value.content) or len(value.content.encode()) > MOST_NAME_BYTES:
            self.add(
                rules.NAME,
                line,
                f"{what} is {quoted(value.content)}, which is no name of Postgres'",
                f"names have at most {MOST_NAME_BYTES} bytes, and no NUL",
            )
            return None
        return value.content

    def plain_name(self, value: Located | None, line: int, what: str) -> str | None:
        """The name of a parameter or an alias."""
        found = self.column(value, line, what)
        if found is None or is_plain_name(found):
            return found
        self.add(
            rules.NAME,
            line,
            f"{what} is {quoted(found)}, which cannot be used as a name",
            "use letters without accents, digits and '_', the first no digit",
        )
        return None

    def boolean(self, owner: Located, key: str, what: str) -> bool:
        """A boolean under a key, false where there is none."""
        value = owner.get(key)
        if value is not None and not isinstance(value.content, bool | None):
            self.add(
                rules.SHAPE,
                owner.line_of(key),
                f"{key!r} of {what} is {kind_of(value)} and not a boolean",
                "write true or false",
            )
            return False
        return bool(value and value.content)
