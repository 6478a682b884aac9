"""Which log lines an alert rule selects, for the parts of LogQL and of CloudWatch's filter patterns that our rules use.

Whatever else a rule says is refused: a rule is never half understood.

LogQL: https://grafana.com/docs/loki/latest/query/. A label that a line lacks is the empty text, and regular expressions
have to match the whole value. CloudWatch: https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/, "Filter pattern
syntax"; a comparison with a field that a line lacks is taken to select nothing.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Line = Mapping[str, Any]
Selects = Callable[[Line], bool]


@dataclass(frozen=True)
class Rule:
    """What a rule selects, the fields that it names with the values that it compares them with, and its threshold.

    `over` is None where the rule speaks of the absence of such lines.
    """

    selects: Selects
    compared: frozenset[tuple[str, str]]
    over: int | None = None
    grouped_by: tuple[str, ...] = ()

    @property
    def events(self) -> set[str]:
        return {value for field, value in self.compared if field == "event"}


_QUERY = re.compile(
    r"(?:sum(?: by \((?P<by>\w+(?:, \w+)*)\))? \((?P<counted>count_over_time)\(|(?P<absent>absent_over_time)\()"
    r'\{app="kiket-worker"\} \| json(?P<filters>(?: \| \w+(?:=~|!~|!=|=)"[^"\\]*")+) \[[0-9]+[mh]\]\)'
    r"(?:\) > (?P<over>[0-9]+))?"
)
_FILTER = re.compile(r' \| (\w+)(=~|!~|!=|=)"([^"\\]*)"')
_WORDS = re.compile(r"[a-z_.]+(\|[a-z_.]+)*")


def logql(query: str) -> Rule:
    """Read the query of a rule for Loki. Raises `ValueError`."""
    found = _QUERY.fullmatch(query)
    if not found or bool(found["counted"]) != bool(found["over"]):
        raise ValueError(f"not understood: {query}")
    filters = _FILTER.findall(found["filters"])
    tests: list[Selects] = []
    compared: set[tuple[str, str]] = set()
    for label, operator, value in filters:
        values = [value]
        if operator in {"=~", "!~"}:
            if not _WORDS.fullmatch(value):
                raise ValueError(f"only words with | between them are understood: {value}")
            # In a regular expression the dot of an event's name is any character, and no two names differ in it alone.
            values = value.split("|")
        compared |= {(label, one) for one in values}
        tests.append(_comparison(label, values, wanted="!" not in operator, missing=""))
    return Rule(
        lambda line: all(test(line) for test in tests),
        frozenset(compared),
        int(found["over"]) if found["over"] else None,
        tuple((found["by"] or "").split(", ")) if found["by"] else (),
    )


_TOKEN = re.compile(r'\s*(?:(?P<comparison>\$\.(\w+) (=|!=) "([^"*%\\]*)")|(?P<sign>&&|\|\||[{}()]))')


def filter_pattern(pattern: str) -> Rule:
    """Read a filter pattern of CloudWatch. Raises `ValueError`."""
    tokens: list[re.Match[str]] = []
    at = 0
    while pattern[at:].strip():
        token = _TOKEN.match(pattern, at)
        if token is None:
            raise ValueError(f"not understood: {pattern[at:]}")
        tokens.append(token)
        at = token.end()
    reader = _Reader(tokens)
    reader.take("{")
    selects = reader.read_all("&&")
    reader.take("}")
    if reader.tokens:
        raise ValueError(f"something follows the pattern: {pattern}")
    return Rule(selects, frozenset(reader.compared))


class _Reader:
    def __init__(self, tokens: list[re.Match[str]]) -> None:
        self.tokens = tokens
        self.compared: set[tuple[str, str]] = set()

    def take(self, sign: str) -> None:
        if not self.tokens or self.tokens.pop(0)["sign"] != sign:
            raise ValueError(f"{sign} is expected")

    def read_all(self, sign: str) -> Selects:
        """Comparisons joined by one sign; others only in parentheses, so that nobody has to know which binds first."""
        parts = [self.read_one()]
        while self.tokens and self.tokens[0]["sign"] == sign:
            self.take(sign)
            parts.append(self.read_one())
        if sign == "&&":
            return lambda line: all(part(line) for part in parts)
        return lambda line: any(part(line) for part in parts)

    def read_one(self) -> Selects:
        if self.tokens and self.tokens[0]["sign"] == "(":
            self.take("(")
            selects = self.read_all("||")
            self.take(")")
            return selects
        if not self.tokens or not self.tokens[0]["comparison"]:
            raise ValueError("a comparison is expected")
        _, field, operator, value = self.tokens.pop(0).groups()[:4]
        self.compared.add((field, value))
        return _comparison(field, [value], wanted=operator == "=", missing=None)


def _comparison(field: str, values: list[str], *, wanted: bool, missing: str | None) -> Selects:
    def selects(line: Line) -> bool:
        found = line.get(field, missing)
        return found is not None and (str(found) in values) is wanted

    return selects
