"""Queries of dashboards that nobody has thought of, on a relation with hostile names."""

from typing import Any

from hypothesis import strategies as st

from kiket_worker.definitions.dashboards.document import (
    Aggregate,
    Filter,
    Function,
    Grouping,
    Operator,
    Ordering,
    Parameter,
    ParameterType,
    QueryConfig,
    Reference,
    Selected,
)

HOSTILE = (
    "'; drop table victim; --",
    '"; drop table victim; --',
    "$1",
    "$$",
    "%s",
    "%(a)s %",
    "{}",
    "\\",
    "\\'; drop table victim",
    "/*",
    "--",
    "E'\\x27'",
    "a'b",
    'a"b',
    "null",
    "",
    " ",
    "\n",
    "ﬀ’＇",
    "💥",
)
# Their columns by the type that they have; two for each kind of comparison with hostile values.
COLUMNS = {
    "id": "integer",
    "plain": "text",
    '"; drop table victim; --': "text",
    "a%sb %(x)s": "character varying(20)",
    "$1": "numeric(12,4)",
    "select": "boolean",
    "on day": "date",
    "'": "double precision",
    "\\": "bigint",
}
TEXTS = st.sampled_from(HOSTILE) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12
)
_KINDS = {
    "integer": (ParameterType.INTEGER, st.integers(-5, 5)),
    "bigint": (ParameterType.INTEGER, st.integers(-(2**63), 2**63 - 1)),
    "numeric(12,4)": (ParameterType.INTEGER, st.integers(-5, 5)),
    "double precision": (ParameterType.INTEGER, st.integers(-5, 5)),
    "text": (ParameterType.STRING, TEXTS),
    "character varying(20)": (ParameterType.STRING, TEXTS),
    "boolean": (ParameterType.BOOLEAN, st.booleans()),
    "date": (ParameterType.DATE, st.dates().map(str)),
}
_OPERATORS = st.sampled_from(list(Operator))


@st.composite
def filters(draw: st.DrawFn) -> tuple[tuple[Filter, ...], tuple[Parameter, ...], dict[str, Any]]:
    """Filters, the parameters that they use, and a value for some of these."""
    made: list[Filter] = []
    parameters: list[Parameter] = []
    arguments: dict[str, Any] = {}
    for column in draw(st.lists(st.sampled_from(list(COLUMNS)), max_size=3, unique=True)):
        kind, values = _KINDS[COLUMNS[column]]
        operator = draw(_OPERATORS)
        several = operator in {Operator.IN, Operator.NOT_IN}
        compared: list[Any] = []
        for _ in range(draw(st.integers(1, 3)) if several else 1):
            if draw(st.booleans()):
                name = f"p{len(parameters)}"
                parameters.append(Parameter(name, kind))
                compared.append(Reference(name))
                if draw(st.booleans()):
                    arguments[name] = draw(values)
            else:
                compared.append(draw(values if several else values | st.none()))
        made.append(Filter(column, operator, tuple(compared)))
    return tuple(made), tuple(parameters), arguments


@st.composite
def queries(draw: st.DrawFn) -> tuple[QueryConfig, dict[str, Any]]:
    """Queries that Postgres takes, and arguments."""
    columns = st.sampled_from(list(COLUMNS))
    chosen, parameters, arguments = draw(filters())
    aliases = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=12)
    names = draw(st.lists(columns, max_size=3, unique=True))
    aggregates: tuple[Aggregate, ...] = ()
    grouped: tuple[Grouping, ...] = ()
    selected = tuple(
        Selected(name, alias)
        for name, alias in zip(
            names, draw(st.lists(aliases, min_size=len(names), max_size=len(names), unique=True)), strict=True
        )
    )
    if draw(st.booleans()):
        functions = draw(st.lists(st.sampled_from([Function.COUNT, Function.COUNT_DISTINCT]), min_size=1, max_size=2))
        taken = {entry.alias for entry in selected}
        aggregates = tuple(
            Aggregate(f"{draw(aliases)[:5]}{number}{''.join(taken)[:3]}", function, draw(columns))
            for number, function in enumerate(functions)
        )
        grouped = tuple(Grouping(name) for name in names)
    output = [entry.alias for entry in (*selected, *aggregates)] or list(COLUMNS)
    ordered = tuple(Ordering(name, draw(st.booleans())) for name in draw(st.lists(st.sampled_from(output), max_size=2)))
    limit = draw(st.none() | st.integers(1, 10_000))
    return (
        QueryConfig("fct_%s\"'", selected, chosen, parameters, aggregates, grouped, ordered, limit),
        arguments,
    )
