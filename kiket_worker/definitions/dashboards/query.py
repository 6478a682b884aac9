"""From `query_config` to SQL. Names are quoted identifiers and values are bound: nothing of a file is pasted.

The statement has `$1` for its first value, as Postgres itself writes it, so that what is prepared when a repository is
checked and what is executed for a reader are the same bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row

from kiket_worker.definitions.dashboards.document import (
    Aggregate,
    Filter,
    Function,
    Operator,
    Parameter,
    ParameterType,
    QueryConfig,
    Reference,
    Selected,
    Value,
)
from kiket_worker.definitions.dashboards.query_config import MOST_ROWS
from kiket_worker.definitions.dashboards.values import WORDS, Comparable, bindable, comparable, does_fit
from kiket_worker.errors import QueryArgumentInvalid, QueryUnfit

_BIGINT = sql.SQL("pg_catalog.int8")
_CALLS = {
    Function.COUNT: sql.SQL("pg_catalog.count({})"),
    Function.COUNT_DISTINCT: sql.SQL("pg_catalog.count(distinct {})"),
    Function.SUM: sql.SQL("pg_catalog.sum({})"),
    Function.AVG: sql.SQL("pg_catalog.avg({})"),
    Function.MIN: sql.SQL("pg_catalog.min({})"),
    Function.MAX: sql.SQL("pg_catalog.max({})"),
}
# Values that stand for a reader's where a query is only prepared.
_SAMPLES: dict[ParameterType, Any] = {
    ParameterType.INTEGER: 1,
    ParameterType.STRING: "",
    ParameterType.DATE: "2026-01-31",
    ParameterType.BOOLEAN: True,
}


@dataclass(frozen=True)
class Query:
    """A statement, and the values of `$1`, `$2` and so on."""

    statement: sql.Composed
    values: tuple[Any, ...]

    def rows(self, session: psycopg.Connection[Any]) -> list[DictRow]:
        """Run it. The session has to be that of a role which may read no other tenant's relations."""
        # The cursor that reads `$1`: for the others, a `%` in a column's name would be the start of a placeholder.
        with psycopg.RawCursor(session, row_factory=dict_row) as cursor:
            return cursor.execute(self.statement, self.values).fetchall()


def build(config: QueryConfig, schema: str, columns: Mapping[str, str], arguments: Mapping[str, Any]) -> Query:
    """The query of a model that lies in this schema and has these columns, by name with Postgres' type.

    Arguments are integers, booleans, texts, and dates as such or as 2026-01-31; None is as if it were not given. A
    filter whose parameter has neither value nor default is left out. Raises `QueryArgumentInvalid`, and `QueryUnfit`
    where the query names what the model does not have.
    """
    builder = _Builder(config, columns, _arguments(config.parameters, arguments))
    return builder.query(schema)


def sample_arguments(config: QueryConfig) -> dict[str, Any]:
    """A value for each parameter, with which the query has all its filters."""
    return {parameter.name: _SAMPLES[parameter.type] for parameter in config.parameters}


def _arguments(parameters: tuple[Parameter, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """The value of each parameter that has one. Raises `QueryArgumentInvalid`."""
    declared = {parameter.name for parameter in parameters}
    strange = sorted(name for name in given if name not in declared)
    if strange:
        raise QueryArgumentInvalid(f"the query has no parameter {', '.join(map(repr, strange))}")
    values = {}
    for parameter in parameters:
        value = given.get(parameter.name)
        if value is None:
            value = parameter.default
        if value is None and parameter.is_required:
            raise QueryArgumentInvalid(f"the parameter {parameter.name!r} is required: give it a value")
        if value is None:
            continue
        if not does_fit(value, parameter.type):
            raise QueryArgumentInvalid(f"the parameter {parameter.name!r} takes {WORDS[parameter.type]}")
        values[parameter.name] = bindable(value, parameter.type)
    return values


class _Builder:
    def __init__(self, config: QueryConfig, columns: Mapping[str, str], arguments: Mapping[str, Any]) -> None:
        self._config = config
        self._columns = columns
        self._arguments = arguments
        self._declared = {parameter.name: parameter.type for parameter in config.parameters}
        self._values: list[Any] = []

    def query(self, schema: str) -> Query:
        config = self._config
        output = config.output(tuple(self._columns))
        parts = [
            sql.SQL("select {} from {}").format(
                sql.SQL(", ").join([self._selected(entry) for entry in output]),
                sql.Identifier(schema, config.model),
            )
        ]
        conditions = [condition for filter_ in config.filters if (condition := self._condition(filter_)) is not None]
        if conditions:
            parts.append(sql.SQL("where {}").format(sql.SQL(" and ").join(conditions)))
        if config.group_by:
            grouped = [self._column(group.column) for group in config.group_by]
            parts.append(sql.SQL("group by {}").format(sql.SQL(", ").join(grouped)))
        if config.order_by:
            aliases = {entry.alias for entry in output}
            ordered = [
                sql.SQL("{} {} nulls last").format(
                    # Alone, a name is first that of the output: so it is also written where the model has it, too.
                    sql.Identifier(order.name) if order.name in aliases else self._column(order.name),
                    sql.SQL("desc") if order.is_descending else sql.SQL("asc"),
                )
                for order in config.order_by
            ]
            parts.append(sql.SQL("order by {}").format(sql.SQL(", ").join(ordered)))
        parts.append(sql.SQL("limit {}").format(self._bind(self._limit(), _BIGINT)))
        return Query(sql.SQL(" ").join(parts), tuple(self._values))

    def _column(self, name: str) -> sql.Composable:
        if name not in self._columns:
            raise QueryUnfit(f"the query names {name!r}, which {self._config.model} does not have")
        return sql.Identifier(self._config.model, name)

    def _selected(self, entry: Selected | Aggregate) -> sql.Composable:
        expression: sql.Composable
        if isinstance(entry, Selected):
            expression = self._column(entry.column)
        else:
            over = sql.SQL("*") if entry.column is None else self._column(entry.column)
            expression = _CALLS[entry.function].format(over)
        return sql.SQL("{} as {}").format(expression, sql.Identifier(entry.alias))

    def _condition(self, filter_: Filter) -> sql.Composable | None:
        """One filter; None where it compares with nothing that has a value."""
        column = self._column(filter_.column)
        compared = comparable(self._columns[filter_.column])
        left = sql.SQL("{}::pg_catalog.text").format(column) if compared is Comparable.TEXT else column
        if filter_.values == (None,):
            is_equal = filter_.operator is Operator.EQUALS
            return sql.SQL("{} is null" if is_equal else "{} is not null").format(column)
        bound = [self._bind(value, compared.value.cast) for value in self._compared(filter_, compared)]
        if not bound:
            return None
        match filter_.operator:
            case Operator.EQUALS:
                return sql.SQL("{} = {}").format(left, bound[0])
            case Operator.NOT_EQUALS:
                return sql.SQL("{} is distinct from {}").format(left, bound[0])
            case Operator.IN:
                return sql.SQL("{} in ({})").format(left, sql.SQL(", ").join(bound))
            case Operator.NOT_IN:
                return sql.SQL("({} in ({})) is not true").format(left, sql.SQL(", ").join(bound))

    def _compared(self, filter_: Filter, compared: Comparable) -> list[Any]:
        values = []
        for value in filter_.values:
            if isinstance(value, Reference):
                if compared.value.parameters.isdisjoint({self._type_of(value)}):
                    raise QueryUnfit(f"the parameter {value.name!r} does not fit the column {filter_.column!r}")
                if value.name in self._arguments:
                    values.append(self._arguments[value.name])
            elif compared.takes(value):
                values.append(compared.bound(value))
            else:
                raise QueryUnfit(f"the filter of {filter_.column!r} compares with what is not {compared.value.words}")
        return values

    def _type_of(self, reference: Reference) -> ParameterType:
        if reference.name not in self._declared:
            raise QueryUnfit(f"the query uses the parameter {reference.name!r}, which it does not declare")
        return self._declared[reference.name]

    def _limit(self) -> int:
        limit: Value = self._config.limit
        if isinstance(limit, Reference):
            if self._type_of(limit) is not ParameterType.INTEGER:
                raise QueryUnfit(f"the limit is the parameter {limit.name!r}, which is no integer")
            limit = self._arguments.get(limit.name)
        if limit is None:
            return MOST_ROWS
        assert isinstance(limit, int)
        if not 1 <= limit <= MOST_ROWS:
            raise QueryArgumentInvalid(f"a query gives 1 to {MOST_ROWS} rows, and not {limit}")
        return limit

    def _bind(self, value: Any, cast: sql.SQL) -> sql.Composable:
        self._values.append(value)
        return sql.SQL("${}::{}").format(sql.Literal(len(self._values)), cast)
