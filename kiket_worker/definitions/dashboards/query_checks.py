"""Checking one query against the columns of its model."""

from collections.abc import Collection, Iterator, Mapping

from kiket_worker.definitions.dashboards import rules
from kiket_worker.definitions.dashboards.document import Filter, ParameterType, QueryConfig, Reference
from kiket_worker.definitions.dashboards.query_config import MOST_ROWS
from kiket_worker.definitions.dashboards.reading import Reading, did_you_mean, quoted
from kiket_worker.definitions.dashboards.values import comparable


def check_parameters(reading: Reading, config: QueryConfig, what: str, used_elsewhere: Collection[str] = ()) -> None:
    """What is used is declared, and the other way round. Needs no columns."""
    declared = {parameter.name: parameter for parameter in config.parameters}
    used = set(used_elsewhere)
    for filter_ in config.filters:
        for name in _references(filter_):
            used.add(name)
            if config.is_whole and name not in declared:
                undeclared(reading, filter_.line, f"{what} filters {quoted(filter_.column)} by", name, declared)
    if isinstance(config.limit, Reference):
        name = config.limit.name
        used.add(name)
        if name in declared:
            _check_limit(reading, config, what, name)
        elif config.is_whole:
            undeclared(reading, config.limit_line, f"{what} is limited by", name, declared)
    for parameter in config.parameters:
        if config.is_whole and parameter.name not in used:
            reading.add(
                rules.PARAMETER_UNUSED,
                parameter.line,
                f"{what} declares the parameter {quoted(parameter.name)}, and nothing uses it",
                f'use it in a filter, as ":{parameter.name}", or take it away',
            )


def undeclared(reading: Reading, line: int, before: str, name: str, declared: Collection[str]) -> None:
    """Note that a parameter is used which nobody declares."""
    reading.add(
        rules.PARAMETER_UNDECLARED,
        line,
        f"{before} ':{name}', which is not declared{did_you_mean(name, declared)}",
        f"declare {name} with its type under `parameters`",
    )


def _references(filter_: Filter) -> Iterator[str]:
    return (value.name for value in filter_.values if isinstance(value, Reference))


def _check_limit(reading: Reading, config: QueryConfig, what: str, name: str) -> None:
    parameter = next(parameter for parameter in config.parameters if parameter.name == name)
    if parameter.type is not ParameterType.INTEGER:
        reading.add(
            rules.PARAMETER_TYPE,
            config.limit_line,
            f"{what} is limited by ':{name}', which is of type {parameter.type.value}",
            "a limit is an integer",
        )
    elif parameter.default is not None and not 1 <= int(parameter.default) <= MOST_ROWS:
        reading.add(
            rules.PARAMETER_DEFAULT,
            parameter.line,
            f"{what} is limited by ':{name}', whose default is not between 1 and {MOST_ROWS}",
        )


def check_columns(reading: Reading, config: QueryConfig, what: str, columns: Mapping[str, str]) -> None:
    """Every column is there, filters compare with what fits, and no two columns of the output have one name."""
    for selected in config.select:
        _check_column(reading, selected.line, f"{what} selects", selected.column, config, columns)
    for aggregate in config.aggregates:
        if aggregate.column is not None:
            _check_column(reading, aggregate.line, f"{what} aggregates", aggregate.column, config, columns)
    for group in config.group_by:
        _check_column(reading, group.line, f"{what} groups by", group.column, config, columns)
    for filter_ in config.filters:
        if _check_column(reading, filter_.line, f"{what} filters by", filter_.column, config, columns):
            _check_values(reading, filter_, config, what, columns[filter_.column])
    output: dict[str, int] = {}
    for entry in config.output(tuple(columns)):
        if entry.alias in output:
            reading.add(
                rules.ALIAS,
                entry.line,
                f"{what} has two columns with the name {quoted(entry.alias)}",
                "give one of them another name, or take it away",
            )
        output[entry.alias] = entry.line
    for order in config.order_by:
        if order.name not in output and config.is_whole:
            _check_column(reading, order.line, f"{what} orders by", order.name, config, columns, output)


def _check_column(
    reading: Reading,
    line: int,
    before: str,
    name: str,
    config: QueryConfig,
    columns: Mapping[str, str],
    aliases: Collection[str] = (),
) -> bool:
    if name in columns:
        return True
    known = sorted({*columns, *aliases})
    reading.add(
        rules.COLUMN,
        line,
        f"{before} {quoted(name)}, which {config.model} does not have{did_you_mean(name, known)}",
        columns_hint(columns),
    )
    return False


def columns_hint(columns: Collection[str]) -> str:
    """The first columns of a model, by name."""
    names = sorted(columns)
    return f"it has {', '.join(names[:20])}{' …' if len(names) > 20 else ''}" if names else "it has no columns"


def _check_values(reading: Reading, filter_: Filter, config: QueryConfig, what: str, column_type: str) -> None:
    compared = comparable(column_type)
    types = {parameter.name: parameter.type for parameter in config.parameters}
    for value in filter_.values:
        if value is None:
            continue
        if not isinstance(value, Reference):
            if not compared.takes(value):
                reading.add(
                    rules.VALUE,
                    filter_.line,
                    f"{what} compares {quoted(filter_.column)}, of type {column_type}, with {_written(value)}",
                    f"write {compared.value.words}{', in quotes' if compared.value.words == 'a text' else ''}",
                )
        elif value.name in types and types[value.name] not in compared.value.parameters:
            fitting = ", ".join(sorted(kind.value for kind in compared.value.parameters))
            reading.add(
                rules.PARAMETER_TYPE,
                filter_.line,
                f"{what} compares {quoted(filter_.column)}, of type {column_type}, with ':{value.name}', which is of "
                f"type {types[value.name].value}",
                f"declare {value.name} as {fitting}",
            )


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return quoted(value) if isinstance(value, str) else str(value)[:80]
