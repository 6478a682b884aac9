"""Reading `query_config`: the query of one widget, alert or query file."""

import math
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import TypeVar

from kiket_worker.definitions.dashboards import rules
from kiket_worker.definitions.dashboards.document import (
    Aggregate,
    Filter,
    Function,
    Grouping,
    Operator,
    Ordering,
    QueryConfig,
    Reference,
    Selected,
    Value,
)
from kiket_worker.definitions.dashboards.parameters import read_parameters
from kiket_worker.definitions.dashboards.reading import Reading, did_you_mean, is_plain_name, kind_of, quoted
from kiket_worker.definitions.problem import Severity
from kiket_worker.definitions.yaml_document import Located
from kiket_worker.ledger.database import is_storable

MOST_COLUMNS = 100
MOST_ROWS = 10_000

_KEYS = ("model", "select", "filters", "parameters", "aggregates", "group_by", "order_by", "limit")
_CALL = re.compile(r"([A-Za-z_]+) *\(([^()]*)\)")
_ORDERED = re.compile(r"(.*\S) +(asc|desc)", re.IGNORECASE)

_Choice = TypeVar("_Choice", bound=StrEnum)


def read_config(reading: Reading, value: Located, line: int, what: str, model: str | None) -> QueryConfig | None:
    """The query, None where not even its model can be told. `model` is that of a query that names none itself.

    What could not be read of it is left out, with a problem, and then it is not `is_whole`.
    """
    if not reading.mapping(value, line, f"query_config of {what}", _KEYS):
        return None
    before = len(reading.problems)
    named = value.get("model")
    if named is not None or model is None:
        model = reading.column(named, value.line_of("model"), f"the model of {what}")
    if model is None:
        return None
    limit = _limit(reading, value, what)
    config = QueryConfig(
        model=model,
        select=tuple(_select(reading, value, what)),
        filters=tuple(_filters(reading, value, what)),
        parameters=tuple(read_parameters(reading, value, what, MOST_COLUMNS)),
        aggregates=tuple(_aggregates(reading, value, what)),
        group_by=tuple(_group_by(reading, value, what)),
        order_by=tuple(_order_by(reading, value, what)),
        limit=limit,
        line=value.line_of("model"),
        limit_line=value.line_of("limit"),
    )
    found = reading.problems[before:]
    if reading.is_full or any(problem.severity is Severity.ERROR for problem in found):
        return config.broken()
    return config


def _part(reading: Reading, value: Located, key: str, what: str) -> Iterator[Located]:
    yield from reading.items(value.get(key), value.line_of(key), f"{key!r} of {what}", MOST_COLUMNS)


def _choice(reading: Reading, name: str, choices: type[_Choice], line: int, what: str) -> _Choice | None:
    try:
        return choices(name)
    except ValueError:
        known = [choice.value for choice in choices]
        reading.add(
            rules.SHAPE,
            line,
            f"{what} is {quoted(name)}, which is not known{did_you_mean(name, known)}",
            f"known are {', '.join(known)}",
        )
        return None


def _select(reading: Reading, value: Located, what: str) -> Iterator[Selected]:
    for item in _part(reading, value, "select", what):
        if not isinstance(item.content, dict):
            column = reading.column(item, item.line, f"a column that {what} selects")
            if column is not None:
                yield Selected(column, column, item.line)
            continue
        reading.mapping(item, item.line, f"an entry of 'select' of {what}", ("column", "as"))
        column = reading.column(item.get("column"), item.line, f"a column that {what} selects")
        alias = column
        if item.get("as") is not None:
            alias = reading.plain_name(item.get("as"), item.line_of("as"), f"an alias of {what}")
        if column is not None and alias is not None:
            yield Selected(column, alias, item.line)


def _filters(reading: Reading, value: Located, what: str) -> Iterator[Filter]:
    for key, item, line in reading.entries(
        value.get("filters"), value.line_of("filters"), f"'filters' of {what}", MOST_COLUMNS
    ):
        column = reading.column(Located(line, key, {}, 0, 0), line, f"a column that {what} filters by")
        if column is None:
            continue
        named = f"the filter of {quoted(column)} of {what}"
        operator: Operator | None = Operator.EQUALS
        compared: Located | None = item
        if isinstance(item.content, dict):
            reading.mapping(item, line, named, ("operator", "value"))
            word = reading.text(item, "operator", named, required=True)
            operator = (
                None
                if word is None
                else _choice(reading, word, Operator, item.line_of("operator"), f"'operator' of {named}")
            )
            compared = item.get("value")
            if compared is None and operator is not None:
                reading.add(rules.SHAPE, line, f"{named} has no 'value'")
        if operator is None or compared is None:
            continue
        values = _compared(reading, compared, operator, line, named)
        if values:
            yield Filter(column, operator, values, line)


def _compared(reading: Reading, value: Located, operator: Operator, line: int, named: str) -> tuple[Value, ...]:
    """What a filter compares with; nothing where it cannot be read."""
    if operator not in {Operator.IN, Operator.NOT_IN}:
        found = _value(reading, value, line, named)
        return () if found is None else found
    if not isinstance(value.content, list) or not value.content:
        reading.add(rules.SHAPE, line, f"{named} takes a list with at least one value")
        return ()
    several: list[Value] = []
    for item in reading.items(value, line, named, MOST_COLUMNS):
        found = _value(reading, item, item.line, named)
        if found == (None,):
            reading.add(rules.SHAPE, item.line, f"{named} has a null in its list", "write a filter of its own for null")
        elif found:
            several.extend(found)
    return tuple(several)


def _value(reading: Reading, value: Located, line: int, named: str) -> tuple[Value] | None:
    content = value.content
    if isinstance(content, list | dict):
        reading.add(
            rules.SHAPE,
            line,
            f"{named} compares with {kind_of(value)}",
            "compare with one value, or write {operator: in, value: [..]}",
        )
        return None
    if isinstance(content, float) and not math.isfinite(content):
        reading.add(rules.SHAPE, line, f"{named} compares with a number that is not finite")
        return None
    if isinstance(content, str):
        if not is_storable(content):
            reading.add(rules.NAME, line, f"{named} compares with a character that cannot be stored")
            return None
        if content.startswith(":") and is_plain_name(content[1:]):
            return (Reference(content[1:]),)
    return (content,)


def _aggregates(reading: Reading, value: Located, what: str) -> Iterator[Aggregate]:
    """A mapping of aliases to calls, or a list of mappings with an alias under `as`."""
    for key, item, at in reading.named(value, "aggregates", "as", what, MOST_COLUMNS):
        alias = reading.plain_name(key, at, f"the alias of an aggregate of {what}")
        if alias is None:
            continue
        called = _call(reading, item, at, f"the aggregate {quoted(alias)} of {what}")
        if called is not None:
            yield Aggregate(alias, *called, at)


def _call(reading: Reading, item: Located, line: int, named: str) -> tuple[Function, str | None] | None:
    stated: Located | None
    if isinstance(item.content, str):
        match = _CALL.fullmatch(item.content.strip())
        if match is None:
            reading.add(
                rules.SHAPE, line, f"{named} is {quoted(item.content)} and not a call", "write it as sum(a_column)"
            )
            return None
        word, inner = match[1].lower(), match[2].strip()
        if word == Function.COUNT and inner.lower().startswith("distinct "):
            word, inner = Function.COUNT_DISTINCT, inner[len("distinct ") :].strip()
        stated = Located(line, inner, {}, 0, 0)
    else:
        if not reading.mapping(item, line, named, ("function", "column", "as")):
            return None
        word = reading.text(item, "function", named, required=True) or ""
        if not word:
            return None
        stated = item.get("column")
    function = _choice(reading, word, Function, line, f"the function of {named}")
    if function is None:
        return None
    if function is Function.COUNT and (stated is None or stated.content in ("*", "", None)):
        return function, None
    column = reading.column(stated, line, f"the column of {named}")
    return None if column is None else (function, column)


def _group_by(reading: Reading, value: Located, what: str) -> Iterator[Grouping]:
    for item in _part(reading, value, "group_by", what):
        column = reading.column(item, item.line, f"a column that {what} groups by")
        if column is not None:
            yield Grouping(column, item.line)


def _order_by(reading: Reading, value: Located, what: str) -> Iterator[Ordering]:
    for item in _part(reading, value, "order_by", what):
        named = f"a column that {what} orders by"
        stated: Located | None = item
        direction = "asc"
        if isinstance(item.content, dict):
            reading.mapping(item, item.line, f"an entry of 'order_by' of {what}", ("column", "direction"))
            stated = item.get("column")
            direction = (reading.text(item, "direction", named) or "asc").lower()
        elif isinstance(item.content, str) and (match := _ORDERED.fullmatch(item.content.strip())):
            stated, direction = Located(item.line, match[1], {}, 0, 0), match[2].lower()
        column = reading.column(stated, item.line, named)
        if direction not in {"asc", "desc"}:
            reading.add(rules.SHAPE, item.line, f"{named} has the direction {quoted(direction)}", "write asc or desc")
        elif column is not None:
            yield Ordering(column, direction == "desc", item.line)


def _limit(reading: Reading, value: Located, what: str) -> int | Reference | None:
    stated = value.get("limit")
    content = stated.content if stated is not None else None
    if content is None:
        return None
    if isinstance(content, str) and content.startswith(":") and is_plain_name(content[1:]):
        return Reference(content[1:])
    if isinstance(content, int) and not isinstance(content, bool) and 1 <= content <= MOST_ROWS:
        return content
    reading.add(
        rules.SHAPE,
        value.line_of("limit"),
        f"'limit' of {what} is not a whole number from 1 to {MOST_ROWS}",
        'write such a number, or the name of an integer parameter as ":name"',
    )
    return None
