"""docs/dashboards.md: its examples have no problem, and its lists are those of the code."""

import re
from pathlib import Path

import pytest

from kiket_worker.definitions.dashboards.condition import parse_condition
from kiket_worker.definitions.dashboards.dashboard_file import COLUMN_KEYS, MOST_ALERTS, MOST_WIDGETS
from kiket_worker.definitions.dashboards.document import Function, Operator, ParameterType, WidgetType
from kiket_worker.definitions.dashboards.query_config import MOST_COLUMNS, MOST_ROWS
from tests.support.dashboards import check, guide_example

PAGE = Path(__file__).parents[2] / "docs" / "dashboards.md"
TEXT = PAGE.read_text()


def test_the_example_has_no_problem() -> None:
    overlay = guide_example()
    assert len(overlay.files) == 2
    assert check(overlay) == []


def test_the_conditions_are_read() -> None:
    block = re.search(r"## Conditions.*?```\n(.*?)```", TEXT, re.DOTALL)
    assert block
    lines = block[1].splitlines()
    assert len(lines) == 4
    for line in lines:
        parse_condition(line)


@pytest.mark.parametrize("kind", [WidgetType, Function, Operator, ParameterType])
def test_every_word_is_explained(kind: type[WidgetType]) -> None:
    assert [word for word in kind if f"`{word.value}`" not in TEXT] == []


def test_keys_of_columns_and_limits_are_those_of_the_code() -> None:
    assert [key for key in COLUMN_KEYS if f"`{key}`" not in TEXT] == []
    for words in (
        f"at most {MOST_WIDGETS} |",
        f"at most {MOST_ALERTS} |",
        f"at most {MOST_COLUMNS} entries",
        f"1 to {MOST_ROWS}",
    ):
        assert words in TEXT
