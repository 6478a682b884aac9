"""Conditions of alerts: what is read, what is refused where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiket_worker.definitions.dashboards.condition import InvalidCondition, Names, parse_condition


@pytest.mark.parametrize(
    ("text", "columns", "parameters"),
    [
        ("issues_completed < 5", ("issues_completed",), ()),
        ("avg(avg_cycle_days) > 3 and total >= :threshold", ("avg_cycle_days", "total"), ("threshold",)),
        ("a < b * 0.8 or not (c = 'x' AND d != \"y\")", ("a", "b", "c", "d"), ()),
        ("count(*) > 0", (), ()),
        ("COUNT(a) >= -1", ("a",), ()),
        ("a is null or b IS NOT NULL", ("a", "b"), ()),
        ("is_archived", ("is_archived",), ()),
        ("not is_archived and :wanted", ("is_archived",), ("wanted",)),
        ("true", (), ()),
        ("((a + b) / 2 - -c) <> 1", ("a", "b", "c"), ()),
        ("count = 1 and sum = 2", ("count", "sum"), ()),
        ("a == 1 and a <= 2", ("a",), ()),
        ("(a) = (true)", ("a",), ()),
        ("A < 1", ("A",), ()),
        ("not " * 50 + "a", ("a",), ()),
        ("(" * 30 + "a" + ")" * 30, ("a",), ()),
        (" and ".join(["a"] * 150), ("a",), ()),
    ],
)
def test_what_is_a_condition(text: str, columns: tuple[str, ...], parameters: tuple[str, ...]) -> None:
    assert parse_condition(text) == Names(columns, parameters)


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("", 1, "a column, a number"),
        ("   ", 4, "a column, a number"),
        ("a <", 4, "not 'the end'"),
        ("a < < 5", 5, "not '<'"),
        ("a < 5 b", 7, "the end, 'and' or 'or'"),
        ("a < 5; drop table a", 6, "';'"),
        ("a < 1 < 2", 7, "the end"),
        ("a + 1", 1, "a comparison"),
        ("5", 1, "a comparison"),
        ("'text'", 1, "a comparison"),
        ("sum(a)", 1, "a comparison"),
        ("a and 5", 7, "a comparison"),
        ("a or b + 1", 6, "a comparison"),
        ("not 5", 5, "a comparison"),
        ("(a < 1) < 2", 1, "a value"),
        ("(a < 1) + 2 > 1", 1, "a value"),
        ("-(a < 1) > 1", 2, "a value"),
        ("1 = (a and b)", 5, "a value"),
        ("median(a) > 1", 1, "no function"),
        ("sum(*) > 1", 5, "a column"),
        ("sum(a + 1) > 1", 7, "')'"),
        ("sum() > 1", 5, "a column"),
        ("(a < 1", 7, "')'"),
        ("a is 5", 6, "'null'"),
        ("a is not", 9, "'null'"),
        ("a = 'it''s'", 9, "the end"),
        ("a = 'open", 5, '"\'"'),
        ("a = 5x", 5, "'5'"),
        ("a = 1.2.3", 5, "'1'"),
        ("a = :", 5, "':'"),
        ("a = \x00", 5, "not understood"),
        ("a = \ud800", 5, "not understood"),
        ("(" * 31 + "a" + ")" * 31, 32, "nested"),
        ("a" * 1001, 1001, "1000 characters"),
        ("and", 1, "not 'and'"),
    ],
)
def test_what_is_no_condition_is_said_with_its_place(text: str, position: int, words: str) -> None:
    with pytest.raises(InvalidCondition) as caught:
        parse_condition(text)
    assert caught.value.position == position
    assert words in str(caught.value)
    assert f"(character {position})" in str(caught.value)


_WORDS = "a b sum count ( ) and or not < >= = + - * / 5 1.5 'x' :p is null true"
_PIECES = st.sampled_from(_WORDS.split())


@given(st.lists(_PIECES, max_size=30).map(" ".join) | st.text(max_size=50))
def test_every_text_is_a_condition_or_none_and_names_are_those_that_stand_in_it(text: str) -> None:
    names, fault = Names((), ()), None
    try:
        names = parse_condition(text)
    except InvalidCondition as refused:
        fault = refused
    assert all(name in text for name in (*names.columns, *names.parameters))
    assert fault is None or (1 <= fault.position <= len(text) + 1 and str(fault).isprintable())
