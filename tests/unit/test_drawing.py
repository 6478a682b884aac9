"""From a widget and its rows to what a page shows."""

import math
from typing import Any

import pytest

from kiket_worker.console.pages.drawing import Drawing, drawing_of
from kiket_worker.definitions.dashboards.document import WidgetType
from kiket_worker.definitions.dashboards.presentation import ShownWidget
from kiket_worker.definitions.dashboards.preview import Cell, Preview, Rows

COLUMNS = ("day", "team", "points", "hours")
ROWS: tuple[tuple[Cell, ...], ...] = (
    ("mon", "red", 3, 1.5),
    ("mon", "blue", 1, None),
    ("tue", "red", 6, 2),
    ("tue", None, 0, 8),
)


def drawn(kind: str, rows: tuple[tuple[Cell, ...], ...] = ROWS, *, is_cut: bool = False, **settings: Any) -> Drawing:
    widget = ShownWidget("w", kind, "W", settings=settings)
    return drawing_of(Preview(widget, Rows(COLUMNS, frozenset({"points", "hours"}), rows, is_cut)))


def test_a_figure_is_the_first_number_or_the_one_that_is_meant() -> None:
    assert (drawn("kpi").value, drawn("kpi").heading) == (3, "points")
    assert drawn("kpi", value={"column": "hours", "title": "Hours"}).heading == "Hours"
    assert drawn("kpi", value="no such column").value == 3
    assert drawn("kpi").notes == ("of the first of 4 rows",)
    assert drawn("kpi", ROWS[:1]).notes == ()


@pytest.mark.parametrize(
    ("value", "settings", "bounds"),
    [
        (0.4, {}, (0, 1)),
        (40, {}, (0, 100)),
        (400, {}, (0, 400)),
        (40, {"max": 50}, (0, 50)),
        (70, {"max": 50, "min": -10}, (-10, 70)),
        (-5, {}, (-5, 100)),
        (0, {"max": 0}, (0, 1)),
    ],
)
def test_a_gauge_has_bounds_that_its_value_lies_within(
    value: float, settings: dict[str, Any], bounds: tuple[float, float]
) -> None:
    found = drawn("gauge", (("mon", "red", value, 1),), **settings)
    assert found.kind == "gauge"
    assert (found.least, found.most) == bounds
    assert found.least <= value <= found.most


def test_a_chart_has_a_series_for_each_number_or_for_each_word() -> None:
    both = drawn("bar", x="day", y=["points", "hours"])
    assert both.labels == ("mon", "mon", "tue", "tue")
    assert [(one.title, one.values) for one in both.series] == [
        ("points", (3, 1, 6, 0)),
        ("hours", (1.5, None, 2, 8)),
    ]
    split = drawn("timeseries", x="day", y="points", series="team")
    assert (split.kind, split.labels) == ("lines", ("mon", "tue"))
    assert [(one.title, one.values) for one in split.series] == [
        ("red", (3, 6)),
        ("blue", (1, None)),
        ("–", (None, 0)),
    ]
    assert drawn("stacked_bar", x="day", series="day").series[0].title == "points"
    many = tuple(("mon", f"team {number}", 1, 1) for number in range(40))
    assert len(drawn("bar", many, x="day", y="points", series="team").series) == 12


def test_of_rows_with_the_same_label_and_word_numbers_are_summed() -> None:
    rows = (("mon", "red", 3, 1), ("mon", "red", 4, 1))
    assert drawn("bar", rows, x="day", y="points", series="team").series[0].values == (7,)


def test_a_pie_has_slices_that_make_a_whole_and_otherwise_is_a_table() -> None:
    pie = drawn("pie", category="team", value="points")
    assert [round(mark.share, 2) for mark in pie.marks] == [0.3, 0.1, 0.6, 0]
    assert pie.marks[0].path.startswith("M 0 0 L 0.0 -100.0 A 100 100 0 0 1 ")
    assert " 0 1 1 " in pie.marks[2].path
    whole = drawn("pie", ROWS[:1], category="team", value="points")
    assert whole.marks[0].path.count("A") == 2
    assert drawn("pie", (("mon", "red", 0, 0),), category="team", value="points").kind == "table"
    assert drawn("pie", (("mon", "red", math.inf, 0),), category="team", value="points").kind == "table"
    assert drawn("pie", ROWS * 4, category="team", value="points").kind == "table"


def test_a_leaderboard_is_measured_by_the_most_and_a_funnel_by_the_first() -> None:
    leaders = drawn("leaderboard", label_by="team", value="points")
    assert [round(mark.share, 2) for mark in leaders.marks] == [0.5, 0.17, 1, 0]
    funnel = drawn("funnel", stage="team", value="points")
    assert [round(mark.share, 2) for mark in funnel.marks] == [1, 0.33, 1, 0]
    assert [mark.label for mark in funnel.marks] == ["red", "blue", "red", "–"]
    assert drawn("funnel", (("mon", "red", None, 1),), stage="team", value="points").marks[0].share == 0


def test_a_heatmap_has_a_cell_for_each_pair_and_none_where_there_is_no_number() -> None:
    heat = drawn("heatmap", x="day", y="team", value="points")
    assert (heat.labels, [line.title for line in heat.series]) == (("mon", "tue"), ["red", "blue", "–"])
    assert [[cell.level for cell in line] for line in heat.shades] == [[4, 9], [2, None], [None, 0]]
    assert drawn("heatmap", x="day").kind == "table"


def test_a_table_has_the_columns_that_are_meant_under_their_titles() -> None:
    table = drawn("table", columns=["team", {"field": "points", "label": "P"}, "gone", 5, {"title": "none"}])
    assert [column.title for column in table.columns] == ["team", "P"]
    assert table.rows[0] == ("red", 3)
    assert drawn("table", is_cut=True).notes == ("there is more: the first 4 rows are shown",)


@pytest.mark.parametrize("kind", [*WidgetType, "something new", ""])
def test_whatever_a_widget_is_and_says_it_is_drawn_somehow(kind: str) -> None:
    odd = ({"x": {}}, {"y": [None, {"column": 5}]}, {"series": "day"}, {"value": "team"}, {"x": "points", "y": "day"})
    values: tuple[Cell, ...] = (None, True, math.nan, math.inf, -math.inf, "text", 10**30, -1)
    for settings in ({}, *odd):
        for rows in (ROWS, (), tuple((value, value, value, value) for value in values)):
            found = drawn(kind, rows, **settings)
            assert found.kind != "fault"
            for mark in found.marks:
                assert 0 <= mark.share <= 1
            for line in found.series:
                assert all(number is None or math.isfinite(number) for number in line.values)
    no_numbers = Rows(("a",), frozenset(), (("x",),), is_cut=False)
    assert drawing_of(Preview(ShownWidget("w", kind, "W"), no_numbers)).kind == "table"
    assert drawing_of(Preview(ShownWidget("w", kind, "W"), fault="It is so.")).kind in {"fault", "text"}
