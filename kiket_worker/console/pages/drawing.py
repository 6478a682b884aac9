"""From a widget and its rows to what a page shows: pure, and the same with and without scripts.

What is drawn is drawn of numbers that are finite; everything is also there as text. Which columns a widget means, its
settings say, as far as its query gives them; else the first that fit are taken.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kiket_worker.definitions.dashboards.document import WidgetType
from kiket_worker.definitions.dashboards.presentation import ShownColumn, ShownWidget
from kiket_worker.definitions.dashboards.preview import Cell, Preview, Rows, finite

_MOST_SERIES = 12
_MOST_SLICES = 12
_MOST_BARS = 200
_MOST_ACROSS = 60
_SHADES = 9
_TONES = 6
# Of a pie's drawing.
_RADIUS = 100

_VALUES = ("y", "value", "size")
_LABELS = ("x", "category", "stage", "label_by")
_SPLITS = ("series", "color_by")


@dataclass(frozen=True)
class Mark:
    """One value with its label. `share` is of what the widget compares it with, from 0 to 1; `path` a slice's shape."""

    label: str
    value: Cell
    share: float = 0
    tone: int = 1
    path: str = ""


@dataclass(frozen=True)
class Series:
    """One line or one set of bars: a number, or None, for each label."""

    title: str
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Shade:
    """A cell of a heatmap: how dark, from 0 to 9, and None where there is no number."""

    value: Cell
    level: int | None


@dataclass(frozen=True)
class Drawing:
    """What a page shows of a widget. Of the fields after `kind`, each kind has its own.

    Kinds are fault, text, figure, gauge, lines, bars, stacked, pie, funnel, leaderboard, heatmap and table.
    """

    widget: ShownWidget
    kind: str
    text: str = ""
    value: Cell = None
    least: float = 0
    most: float = 1
    heading: str = ""
    labels: tuple[str, ...] = ()
    series: tuple[Series, ...] = ()
    marks: tuple[Mark, ...] = ()
    columns: tuple[ShownColumn, ...] = ()
    numbers: frozenset[str] = frozenset()
    rows: tuple[tuple[Cell, ...], ...] = ()
    shades: tuple[tuple[Shade, ...], ...] = ()
    notes: tuple[str, ...] = field(default=())


def drawing_of(preview: Preview) -> Drawing:
    """What a page shows of a preview."""
    widget, rows = preview.widget, preview.rows
    if rows is None:
        if widget.type == WidgetType.TEXT:
            return Drawing(widget, "text", text=widget.text)
        return Drawing(widget, "fault", text=preview.fault or "There is nothing to show.")
    draw = _DRAWN.get(widget.type, _table)
    return (draw if rows.rows else _table)(widget, rows)


def _figure(widget: ShownWidget, rows: Rows) -> Drawing:
    column = _values(widget, rows)[:1]
    if not column:
        return _table(widget, rows)
    value = rows.column(column[0].name)[0]
    notes = (f"of the first of {len(rows.rows)} rows",) if len(rows.rows) > 1 else ()
    return Drawing(widget, "figure", value=value, heading=column[0].title, notes=notes)


def _gauge(widget: ShownWidget, rows: Rows) -> Drawing:
    figure = _figure(widget, rows)
    number = finite(figure.value)
    if figure.kind != "figure" or number is None:
        return figure
    least = widget.number("min", "least") or 0
    # A share, unless something else is said.
    most = widget.number("max", "most", "target") or (1 if 0 <= number <= 1 else 100 if number <= 100 else number)
    least, most = min(least, number), max(most, number, least + 1e-9)
    return Drawing(
        widget, "gauge", value=figure.value, heading=figure.heading, least=least, most=most, notes=figure.notes
    )


def _chart(kind: str) -> Callable[[ShownWidget, Rows], Drawing]:
    def draw(widget: ShownWidget, rows: Rows) -> Drawing:
        values = _values(widget, rows)
        label = _label(widget, rows, values)
        split = _named(widget, rows, *_SPLITS)[:1]
        if label is None or not values:
            return _table(widget, rows)
        notes = list(_cut(rows))
        if split and split[0].name not in {label.name, values[0].name}:
            labels, series = _pivoted(rows, label, split[0], values[0])
        else:
            labels = [_word(cell) for cell in rows.column(label.name)]
            series = [Series(one.title, tuple(map(finite, rows.column(one.name)))) for one in values]
        if len(series) > _MOST_SERIES:
            notes.append(f"the first {_MOST_SERIES} of {len(series)} series are shown")
        return Drawing(
            widget,
            kind,
            heading=label.title,
            labels=tuple(labels),
            series=tuple(series[:_MOST_SERIES]),
            notes=tuple(notes),
        )

    return draw


def _pivoted(rows: Rows, label: ShownColumn, split: ShownColumn, value: ShownColumn) -> tuple[list[str], list[Series]]:
    """One series for each word of a column; of rows that have both the same, numbers are summed."""
    labels: dict[str, int] = {}
    found: dict[str, dict[int, float]] = {}
    columns = (rows.column(one.name) for one in (label, split, value))
    for at, word, cell in zip(*columns, strict=True):
        place = labels.setdefault(_word(at), len(labels))
        numbers = found.setdefault(_word(word), {})
        if (number := finite(cell)) is not None:
            numbers[place] = numbers.get(place, 0) + number
    return list(labels), [
        Series(name, tuple(numbers.get(place) for place in range(len(labels)))) for name, numbers in found.items()
    ]


def _marks(widget: ShownWidget, rows: Rows, most: int) -> tuple[ShownColumn, list[Mark], tuple[str, ...]] | None:
    """Labels with their numbers; None where there are no such columns."""
    values = _values(widget, rows)
    label = _label(widget, rows, values)
    if label is None or not values:
        return None
    found = [
        Mark(_word(name), value)
        for name, value in zip(rows.column(label.name), rows.column(values[0].name), strict=True)
    ]
    notes = _cut(rows)
    if len(found) > most:
        notes = (*notes, f"the first {most} of {len(found)} are shown")
    return values[0], found[:most], notes


def _pie(widget: ShownWidget, rows: Rows) -> Drawing:
    if (found := _marks(widget, rows, _MOST_BARS)) is None:
        return _table(widget, rows)
    value, marks, notes = found
    whole = sum(max(0, finite(mark.value) or 0) for mark in marks)
    if whole <= 0 or not math.isfinite(whole) or len(marks) > _MOST_SLICES:
        return _table(widget, rows)
    slices, begun = [], 0.0
    for number, mark in enumerate(marks):
        share = max(0, finite(mark.value) or 0) / whole
        path = _slice(begun, begun + share)
        slices.append(Mark(mark.label, mark.value, share, number % _TONES + 1, path))
        begun += share
    return Drawing(widget, "pie", heading=value.title, marks=tuple(slices), notes=notes)


def _slice(start: float, end: float) -> str:
    """The outline of a part of a circle around 0, 0; the shares are counted from the top, clockwise."""
    if end - start > 0.9999:
        return f"M 0 -{_RADIUS} A {_RADIUS} {_RADIUS} 0 1 1 0 {_RADIUS} A {_RADIUS} {_RADIUS} 0 1 1 0 -{_RADIUS} Z"
    (x1, y1), (x2, y2) = (
        (round(_RADIUS * math.sin(2 * math.pi * at), 2), round(-_RADIUS * math.cos(2 * math.pi * at), 2))
        for at in (start, end)
    )
    return f"M 0 0 L {x1} {y1} A {_RADIUS} {_RADIUS} 0 {int(end - start > 0.5)} 1 {x2} {y2} Z"


def _ranked(kind: str) -> Callable[[ShownWidget, Rows], Drawing]:
    """Bars of which each is compared with the longest; or, in a funnel, with the first."""

    def draw(widget: ShownWidget, rows: Rows) -> Drawing:
        if (found := _marks(widget, rows, _MOST_BARS)) is None:
            return _table(widget, rows)
        value, marks, notes = found
        numbers = [max(0, finite(mark.value) or 0) for mark in marks]
        whole = numbers[0] if kind == "funnel" else max(numbers)
        shares = [min(1, number / whole) if whole > 0 else 0 for number in numbers]
        shown = tuple(Mark(mark.label, mark.value, share) for mark, share in zip(marks, shares, strict=True))
        return Drawing(widget, kind, heading=value.title, marks=shown, notes=notes)

    return draw


def _heatmap(widget: ShownWidget, rows: Rows) -> Drawing:
    across = _named(widget, rows, "x")[:1]
    down = [one for one in _named(widget, rows, "y", *_SPLITS, "group_by", "category") if one not in across][:1]
    taken = [*across, *down]
    values = [one for one in _named(widget, rows, "value", "size") or _numbers(rows) if one not in taken][:1]
    if len(taken) < 2 or not values:
        return _table(widget, rows)
    labels, series = _pivoted(rows, across[0], down[0], values[0])
    notes = _cut(rows)
    if len(labels) > _MOST_ACROSS or len(series) > _MOST_BARS:
        notes = (*notes, f"the first {_MOST_ACROSS} by {_MOST_BARS} cells are shown")
        labels, series = labels[:_MOST_ACROSS], series[:_MOST_BARS]
    lines = [line.values[: len(labels)] for line in series]
    known = [number for line in lines for number in line if number is not None]
    least, most = min(known, default=0), max(known, default=0)
    shades = tuple(tuple(Shade(number, _level(number, least, most)) for number in line) for line in lines)
    return Drawing(
        widget,
        "heatmap",
        heading=values[0].title,
        labels=tuple(labels),
        series=tuple(Series(line.title, ()) for line in series),
        shades=shades,
        notes=notes,
    )


def _level(number: float | None, least: float, most: float) -> int | None:
    if number is None:
        return None
    return round(_SHADES * (number - least) / (most - least)) if most > least else 0


def _table(widget: ShownWidget, rows: Rows) -> Drawing:
    columns = _named(widget, rows, "columns") or [ShownColumn(name, name) for name in rows.columns]
    places = [rows.columns.index(column.name) for column in columns]
    return Drawing(
        widget,
        "table",
        columns=tuple(columns),
        numbers=rows.numbers,
        rows=tuple(tuple(row[place] for place in places) for row in rows.rows),
        notes=_cut(rows),
    )


_DRAWN: dict[str, Callable[[ShownWidget, Rows], Drawing]] = {
    WidgetType.KPI: _figure,
    WidgetType.GAUGE: _gauge,
    WidgetType.TIMESERIES: _chart("lines"),
    WidgetType.BAR: _chart("bars"),
    WidgetType.STACKED_BAR: _chart("stacked"),
    WidgetType.PIE: _pie,
    WidgetType.LEADERBOARD: _ranked("leaderboard"),
    WidgetType.FUNNEL: _ranked("funnel"),
    WidgetType.HEATMAP: _heatmap,
    WidgetType.TABLE: _table,
}


def _named(widget: ShownWidget, rows: Rows, *keys: str) -> list[ShownColumn]:
    """The columns under the first of these keys that names any that the query gives."""
    for key in keys:
        if found := [column for column in widget.columns(key) if column.name in rows.columns]:
            return found
    return []


def _numbers(rows: Rows) -> list[ShownColumn]:
    return [ShownColumn(name, name) for name in rows.columns if name in rows.numbers]


def _values(widget: ShownWidget, rows: Rows) -> list[ShownColumn]:
    """The columns of numbers that are meant; else those that are no label."""
    meant = [column for column in _named(widget, rows, *_VALUES) if column.name in rows.numbers]
    if meant:
        return meant
    labels = {column.name for key in (*_LABELS, *_SPLITS) for column in widget.columns(key)}
    return [column for column in _numbers(rows) if column.name not in labels]


def _label(widget: ShownWidget, rows: Rows, values: Sequence[ShownColumn]) -> ShownColumn | None:
    """The column of labels that is meant; else the first that is none of the numbers."""
    if found := _named(widget, rows, *_LABELS):
        return found[0]
    taken = {column.name for column in values}
    return next((ShownColumn(name, name) for name in rows.columns if name not in taken), None)


def _word(cell: Cell) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return str(cell)


def _cut(rows: Rows) -> tuple[str, ...]:
    return (f"there is more: the first {len(rows.rows)} rows are shown",) if rows.is_cut else ()
