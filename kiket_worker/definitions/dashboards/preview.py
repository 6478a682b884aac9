"""Previews of dashboards: each widget's query, run once as the organisation's read-only twin, within bounds.

Whatever a model or a function of the organisation does when it is read, it does with the twin's rights, in a read-only
transaction that is rolled back; and so many rows, bytes and seconds are taken, and no more.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from kiket_worker.definitions.dashboards.document import (
    Aggregate,
    Function,
    Parameter,
    ParameterType,
    QueryConfig,
    Reference,
    Selected,
)
from kiket_worker.definitions.dashboards.preparing import relations_of
from kiket_worker.definitions.dashboards.presentation import ShownDashboard, ShownWidget
from kiket_worker.definitions.dashboards.query import Query, build
from kiket_worker.definitions.dashboards.query_config import MOST_ROWS
from kiket_worker.definitions.dashboards.values import Comparable, comparable
from kiket_worker.errors import PreviewsBusy, QueryArgumentInvalid, QueryUnfit, TenantOverran
from kiket_worker.ledger.connections import OF_PREVIEWS
from kiket_worker.ledger.database import Connection
from kiket_worker.tenants.provisioning import Candidate
from kiket_worker.tenants.schema import schema_name
from kiket_worker.tenants.twins import Twins, reading_only

_PLAIN = frozenset({Comparable.INTEGER, Comparable.NUMERIC, Comparable.REAL, Comparable.DOUBLE, Comparable.BOOLEAN})
_NUMBERS = _PLAIN - {Comparable.BOOLEAN}
_MOST_CELL_CHARACTERS = 500
_MOST_FAULT_CHARACTERS = 300

Cell = str | int | float | bool | None
Schemas = Mapping[str, tuple[str, Mapping[str, str]]]


@dataclass(frozen=True)
class Bounds:
    """What a preview may take. `seats` are previews at a time, of which one organisation has its share at most."""

    rows: int = 1000
    bytes: int = 1024 * 1024
    widgets: int = 40
    query_seconds: float = 5
    dashboard_seconds: float = 15
    seats: int = OF_PREVIEWS
    seats_of_one: int = 2


@dataclass(frozen=True)
class Rows:
    """What a query gave. Whatever is no number and no boolean is text. `is_cut`: there is more."""

    columns: tuple[str, ...]
    numbers: frozenset[str]
    rows: tuple[tuple[Cell, ...], ...]
    is_cut: bool

    def column(self, name: str) -> list[Cell]:
        """The cells of a column."""
        at = self.columns.index(name)
        return [row[at] for row in self.rows]


@dataclass(frozen=True)
class Preview:
    """A widget, and what its query gave; or why there is nothing, in its author's terms."""

    widget: ShownWidget
    rows: Rows | None = None
    fault: str = ""


class Previews:
    """Draws from organisations' marts, as their twins. `shared_schema` is where shared models are."""

    def __init__(self, twins: Twins, shared_schema: str, bounds: Bounds = Bounds()) -> None:  # frozen
        self._twins = twins
        self._shared_schema = shared_schema
        self._bounds = bounds
        self._lock = threading.Lock()
        self._taken: Counter[int] = Counter()

    def of(self, candidate: Candidate, dashboard: ShownDashboard, arguments: Mapping[str, str]) -> list[Preview]:
        """Every widget of a dashboard. `arguments` are readers' values for parameters, as they have written them.

        Raises `PreviewsBusy`, `UnknownTenant`, `TenantLoginFailed` and `TenantNotIsolated`.
        """
        bounds, schema = self._bounds, schema_name(candidate.slug)
        until = time.monotonic() + bounds.dashboard_seconds
        widgets, left = dashboard.widgets[: bounds.widgets], dashboard.widgets[bounds.widgets :]
        found = []
        with (
            self._seat(candidate.organization_id),
            self._twins.session(candidate, most_seconds=bounds.dashboard_seconds) as session,
        ):
            schemas = self._schemas(session, schema, until) if any(widget.config for widget in widgets) else {}
            found += [self._preview(session, widget, schemas, arguments, until) for widget in widgets]
        too_many = f"A preview shows the first {bounds.widgets} widgets."
        return [*found, *(Preview(widget, fault=too_many) for widget in left)]

    def _preview(
        self,
        session: Connection,
        widget: ShownWidget,
        schemas: Schemas,
        arguments: Mapping[str, str],
        until: float,
    ) -> Preview:
        config = widget.config
        if config is None:
            return Preview(widget, fault=widget.fault)
        seconds = min(self._bounds.query_seconds, until - time.monotonic())
        try:
            return Preview(widget, self._asked(session, config, schemas, arguments, seconds))
        except (QueryUnfit, QueryArgumentInvalid) as fault:
            words = _sentence(str(fault))
        except TenantOverran:
            words = f"The dashboard's widgets together took more than {self._bounds.dashboard_seconds:g} seconds."
        except psycopg.errors.QueryCanceled:
            words = f"The query took more than {seconds:.2g} seconds."
        except psycopg.Error as fault:
            has_ended = session.broken or session.closed
            words = "The session ended: the query took too long, or was ended." if has_ended else _words(fault)
        return Preview(widget, fault=words)

    def _asked(
        self, session: Connection, config: QueryConfig, schemas: Schemas, arguments: Mapping[str, str], seconds: float
    ) -> Rows:
        if config.model not in schemas:
            raise QueryUnfit(f"the model {config.model} is not built: no relation of this name is there")
        values = {one.name: _value(one, arguments[one.name]) for one in config.parameters if arguments.get(one.name)}
        query, columns, numbers = bounded_query(config, *schemas[config.model], values, self._bounds.rows)
        with reading_only(session, most_seconds=seconds):
            rows, is_cut = self._rows(session, query)
        return Rows(columns, numbers, tuple(rows), is_cut)

    def _rows(self, session: Connection, query: Query) -> tuple[list[tuple[Cell, ...]], bool]:
        """The rows, one by one: however large they are, no more of them is in memory than may be shown."""
        found: list[tuple[Cell, ...]] = []
        size = 0
        # The cursor that reads `$1`; see `Query.rows`.
        with psycopg.RawCursor(session, row_factory=tuple_row) as cursor:
            for row in cursor.stream(query.statement, query.values):
                cells = tuple(_cell(value) for value in row)
                size += sum(len(str(cell)) for cell in cells)
                if len(found) == self._bounds.rows or size > self._bounds.bytes:
                    return found, True
                found.append(cells)
        return found, False

    def _schemas(self, session: Connection, schema: str, until: float) -> Schemas:
        """The models, each with the schema where it lies and its columns. The organisation's own come first."""
        found: dict[str, tuple[str, Mapping[str, str]]] = {}
        with reading_only(session, most_seconds=until - time.monotonic()):
            for name in (self._shared_schema, schema):
                found |= {model: (name, columns) for model, columns in relations_of(session, name).items()}
        return found

    @contextmanager
    def _seat(self, organization_id: int) -> Iterator[None]:
        with self._lock:
            if self._taken.total() >= self._bounds.seats or self._taken[organization_id] >= self._bounds.seats_of_one:
                raise PreviewsBusy("other dashboards are being drawn at the moment: try again in a few seconds")
            self._taken[organization_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[organization_id] -= 1


def bounded_query(
    config: QueryConfig, schema: str, columns: Mapping[str, str], arguments: Mapping[str, Any], most_rows: int
) -> tuple[Query, tuple[str, ...], frozenset[str]]:
    """The query of a widget for a preview, the names of its columns, and which of them are numbers.

    It gives a row more than may be shown, so that one knows of it, and of what is no number or boolean the beginning of
    its text. Raises as `build` does.
    """
    limit = config.limit
    if isinstance(limit, Reference):
        stated = {one.name: one.default for one in config.parameters} | dict(arguments)
        limit = stated.get(limit.name) if isinstance(stated.get(limit.name), int) else None
    most = most_rows + 1
    narrowed = config
    if limit is None or most < limit <= MOST_ROWS:
        narrowed = replace(config, limit=most)
    inner = build(narrowed, schema, columns, arguments)
    output = config.output(tuple(columns))
    # Named anew: what the author calls them may be anything.
    places = [sql.Identifier(f"c{number}") for number in range(1, len(output) + 1)]
    types = [_comparable(entry, columns) for entry in output]
    shown = [
        place
        if kind in _PLAIN
        else sql.SQL("pg_catalog.left({}::pg_catalog.text, {})").format(place, sql.Literal(_MOST_CELL_CHARACTERS))
        for place, kind in zip(places, types, strict=True)
    ]
    statement = sql.SQL("select {} from ({}) as shown ({})").format(
        sql.SQL(", ").join(shown), inner.statement, sql.SQL(", ").join(places)
    )
    names = tuple(entry.alias for entry in output)
    numbers = frozenset(name for name, kind in zip(names, types, strict=True) if kind in _NUMBERS)
    return Query(statement, inner.values), names, numbers


def _comparable(entry: Selected | Aggregate, columns: Mapping[str, str]) -> Comparable:
    if entry.column is None or (
        isinstance(entry, Aggregate) and entry.function in {Function.COUNT, Function.COUNT_DISTINCT}
    ):
        return Comparable.INTEGER
    return comparable(columns[entry.column])


def _value(parameter: Parameter, text: str) -> Any:
    """A reader's text as a value of the parameter's type; what is none is refused when the query is built."""
    if parameter.type is ParameterType.INTEGER and text.removeprefix("-").isdecimal() and len(text) <= 20:
        return int(text)
    if parameter.type is ParameterType.BOOLEAN and text in {"true", "false"}:
        return text == "true"
    return text


def _cell(value: Any) -> Cell:
    if isinstance(value, Decimal):
        number = float(value)
        return int(value) if value == value.to_integral_value() and abs(number) < 2**53 else number
    if isinstance(value, float | int | str | bool) or value is None:
        return value
    return str(value)[:_MOST_CELL_CHARACTERS]


def finite(value: Cell) -> float | None:
    """A cell as a number that can be drawn; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _words(fault: psycopg.Error) -> str:
    return _sentence(f"Postgres refuses the query: {fault.diag.message_primary or 'it did not say why'}")


def _sentence(text: str) -> str:
    line = " ".join(text.split())[:_MOST_FAULT_CHARACTERS]
    return line[:1].upper() + line[1:] + ("" if line.endswith((".", "…")) else ".")
