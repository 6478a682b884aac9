"""The pure parts of usage: days, forms, cursors, prices."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from kiket_worker.console.api.usage import days_of
from kiket_worker.console.cost import cents_of
from kiket_worker.console.negotiation import prefers_csv
from kiket_worker.console.paging import decoded, encoded
from kiket_worker.console.problems import Problem
from kiket_worker.settings import prices

TODAY = date(2026, 6, 15)
EAST, WEST = timezone(timedelta(hours=9)), timezone(timedelta(hours=-9))


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("text/csv", True),
        ("text/csv; charset=utf-8", True),
        ("TEXT/CSV", True),
        ("text/csv, application/json;q=0.9", True),
        ("text/csv;q=0.9, application/json", False),
        ("text/csv, application/json", False),
        ("*/*", False),
        ("text/csv, */*;q=0.1", True),
        ("text/csv;q=0", False),
        ("", False),
        ("application/json", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        (";;;,,q=", False),
    ],
)
def test_csv_is_for_who_would_rather_have_it(accept: str, wanted: bool) -> None:
    assert prefers_csv(accept) is wanted


@pytest.mark.parametrize(
    ("start_at", "end_at", "days"),
    [
        (None, None, (date(2026, 5, 17), date(2026, 6, 16))),
        (None, date(2026, 1, 31), (date(2026, 1, 1), date(2026, 1, 31))),
        (date(2026, 6, 1), None, (date(2026, 6, 1), date(2026, 6, 16))),
        (datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 6, 2, tzinfo=UTC), (date(2026, 6, 1), date(2026, 6, 2))),
        (
            datetime(2026, 6, 1, 5, tzinfo=UTC),
            datetime(2026, 6, 1, 6, tzinfo=UTC),
            (date(2026, 6, 1), date(2026, 6, 2)),
        ),
    ],
)
def test_days_are_whole(start_at: date | None, end_at: date | None, days: tuple[date, date]) -> None:
    assert days_of(start_at, end_at, today=TODAY) == days


@pytest.mark.parametrize(
    ("start_at", "end_at", "days"),
    [
        (date(2026, 6, 3), date(2026, 6, 2), (date(2026, 6, 2), date(2026, 6, 2))),
        (date(2030, 1, 1), None, (date(2026, 6, 16), date(2026, 6, 16))),
        (None, date.min, (date.min, date.min)),
        (date.min, date.max, (date.min, date.max)),
        (datetime.max.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), (date.max, date.max)),
        (datetime.min.replace(tzinfo=EAST), datetime.max.replace(tzinfo=WEST), (date.min, date.max)),
    ],
)
def test_there_is_no_time_that_is_not_understood(start_at: date, end_at: date | None, days: tuple[date, date]) -> None:
    assert days_of(start_at, end_at, today=TODAY) == days


@pytest.mark.parametrize("parts", [("a",), ("ä\n☃", "2"), ("",), ('"', "\\")])
def test_a_cursor_gives_back_what_was_put_into_it(parts: tuple[str, ...]) -> None:
    cursor = encoded(*parts)
    assert cursor.isascii()
    assert decoded(cursor, len(parts)) == list(parts)


@pytest.mark.parametrize("cursor", ["", "x", "%%%", "ä", encoded("a", "b"), "W10", "bnVsbA", "WzFd", "WyJcdTAwMDAiXQ"])
def test_another_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(Problem) as refused:
        decoded(cursor, 1)
    assert refused.value.kind == "cursor_invalid"


def test_prices_are_cents_by_metric() -> None:
    assert prices("analytics_dbt_run=0.25, storage=3") == {"analytics_dbt_run": Decimal("0.25"), "storage": Decimal(3)}
    assert prices("") == {}
    assert cents_of(Decimal(3), "storage", prices("storage=0.1")) == 0.3
    assert cents_of(Decimal(3), "other", prices("storage=0.1")) is None


@pytest.mark.parametrize("text", ["a", "a=", "a=-1", "a=1;b=2", "a=1,a=2", "A=1", "a=1e9", "a=nan", ",", "a=1.1234567"])
def test_what_is_no_price_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="METRIC=CENTS"):
        prices(text)
