"""What a dashboard is made of. Lines are those of the file, counted from 1; equality does not look at them."""

from dataclasses import dataclass, field, replace
from enum import StrEnum

Scalar = bool | int | float | str | None


class WidgetType(StrEnum):
    """What the platform draws."""

    KPI = "kpi"
    TIMESERIES = "timeseries"
    BAR = "bar"
    STACKED_BAR = "stacked_bar"
    PIE = "pie"
    TABLE = "table"
    LEADERBOARD = "leaderboard"
    HEATMAP = "heatmap"
    FUNNEL = "funnel"
    GAUGE = "gauge"
    TEXT = "text"


class Function(StrEnum):
    """What many rows become one by."""

    COUNT = "count"
    COUNT_DISTINCT = "count_distinct"
    SUM = "sum"
    AVG = "avg"
    MIN = "min"
    MAX = "max"


class Operator(StrEnum):
    """How a filter compares. Without one it is equality."""

    EQUALS = "equals"
    NOT_EQUALS = "not_equals"
    IN = "in"
    NOT_IN = "not_in"


class ParameterType(StrEnum):
    """What a reader may give as a parameter's value."""

    INTEGER = "integer"
    STRING = "string"
    DATE = "date"
    BOOLEAN = "boolean"


@dataclass(frozen=True)
class Reference:
    """A use of a parameter, written `:name`."""

    name: str


Value = Scalar | Reference


@dataclass(frozen=True)
class Selected:
    """A column of the model, under its own name or another."""

    column: str
    alias: str
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Aggregate:
    """A function over a column; without one it counts rows."""

    alias: str
    function: Function
    column: str | None
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Filter:
    """What a column has to be. `values` has one value, but for the operators of lists."""

    column: str
    operator: Operator
    values: tuple[Value, ...]
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Ordering:
    """A column of the model or of the query's output."""

    name: str
    is_descending: bool
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Grouping:
    """A column of the model by which rows are put together."""

    column: str
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Parameter:
    """A value that a reader gives. Without one and without a default, filters that use it are left out."""

    name: str
    type: ParameterType
    is_required: bool = False
    default: Scalar = None
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class QueryConfig:
    """One query of one model.

    Its output is what is selected, then the aggregates. Without `select` it is what is grouped by, or, where there are
    no aggregates either, every column.
    """

    model: str
    select: tuple[Selected, ...] = ()
    filters: tuple[Filter, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    aggregates: tuple[Aggregate, ...] = ()
    group_by: tuple[Grouping, ...] = ()
    order_by: tuple[Ordering, ...] = ()
    limit: int | Reference | None = None
    line: int = field(default=0, compare=False)
    limit_line: int = field(default=0, compare=False)
    is_whole: bool = True

    def broken(self) -> "QueryConfig":
        """The same, for what was left out of it because it could not be read."""
        return replace(self, is_whole=False)

    def output(self, columns: tuple[str, ...]) -> tuple[Selected | Aggregate, ...]:
        """What its rows have, of a model with these columns."""
        plain = self.select or tuple(Selected(group.column, group.column, group.line) for group in self.group_by)
        if not plain and not self.aggregates:
            plain = tuple(Selected(column, column) for column in columns)
        return (*plain, *self.aggregates)


@dataclass(frozen=True)
class Shown:
    """A column that a widget shows, and the key that says so, as `visualization.x`."""

    key: str
    column: str
    line: int


@dataclass(frozen=True)
class Source:
    """Where rows come from: a query of one's own, or the name of a query file or model."""

    name: str | None
    config: QueryConfig | None
    line: int


@dataclass(frozen=True)
class Widget:
    """One part of a dashboard. A text has no source, nor has what could not be read."""

    id: str
    source: Source | None
    shown: tuple[Shown, ...]
    line: int


@dataclass(frozen=True)
class Alert:
    """What roles are told of. `number` counts the alerts of a dashboard from 1."""

    number: int
    source: Source | None
    condition: str | None
    line: int
    condition_line: int


@dataclass(frozen=True)
class Dashboard:
    """A dashboard file."""

    file: str
    id: str
    widgets: tuple[Widget, ...]
    alerts: tuple[Alert, ...]
    line: int


@dataclass(frozen=True)
class NamedQuery:
    """A query file. Without a config it holds what is not run here."""

    file: str
    id: str
    config: QueryConfig | None
    line: int
