"""Usage over the API: whole days, sums that agree with the events, costs, and CSV."""

import csv
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from kiket_worker.ledger import usage
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.usage import Period
from tests.support.console import API, Console, Served

JUNE = {"start_at": "2026-06-01", "end_at": "2026-07-01"}


@pytest.fixture
def ops(served: Served) -> Iterator[httpx.Client]:
    with served.client() as client:
        yield client


@pytest.fixture
def acme(served: Served) -> Iterator[httpx.Client]:
    with served.client(1) as client:
        yield client


def use(
    database: Any, organization_id: int, at: str, quantity: object, metric: str = "seats", unit: str = "seat"
) -> None:
    database.execute(
        "insert into kiket_analytics.usage_events (organization_id, metric, quantity, unit, recorded_at)"
        " values (%s, %s, %s, %s, %s)",
        *(organization_id, metric, quantity, unit, at),
    )


def test_usage_is_grouped_in_whole_days_of_utc(sample_database: Any, acme: httpx.Client) -> None:
    use(sample_database, 1, "2026-06-01T00:00:00Z", 1)
    use(sample_database, 1, "2026-06-03T23:59:59Z", "2.5")
    use(sample_database, 1, "2026-06-04T01:00:00+02:00", 4)
    use(sample_database, 1, "2026-06-08T12:00:00Z", 8)
    use(sample_database, 1, "2026-07-01T00:00:00Z", 100)
    use(sample_database, 2, "2026-06-02T00:00:00Z", 1000)
    found = acme.get(f"{API}/usage", params=JUNE).json()
    assert found == {
        "start_at": "2026-06-01T00:00:00Z",
        "end_at": "2026-07-01T00:00:00Z",
        "unit": "day",
        "totals": {"seats": {"quantity": 15.5, "unit": "seat", "estimated_cost_cents": None}},
        "series": {"seats": {"2026-06-01": 1, "2026-06-03": 6.5, "2026-06-08": 8}},
    }
    weeks = acme.get(f"{API}/usage", params=JUNE | {"group_by": "week"}).json()["series"]["seats"]
    assert weeks == {"2026-06-01": 7.5, "2026-06-08": 8}
    months = acme.get(f"{API}/usage", params=JUNE | {"group_by": "month"}).json()["series"]["seats"]
    assert months == {"2026-06-01": 15.5}


def test_times_within_a_day_are_widened_to_the_whole_day(acme: httpx.Client) -> None:
    asked = {"start_at": "2026-06-01T10:00:00+02:00", "end_at": "2026-06-02T00:00:01Z"}
    found = acme.get(f"{API}/usage", params=asked).json()
    assert (found["start_at"], found["end_at"]) == ("2026-06-01T00:00:00Z", "2026-06-03T00:00:00Z")
    assert (found["totals"], found["series"]) == ({}, {})


def test_without_times_it_is_the_last_thirty_days_with_today(sample_database: Any, acme: httpx.Client) -> None:
    use(sample_database, 1, datetime.now(UTC).isoformat(), 3)
    found = acme.get(f"{API}/usage").json()
    assert found["totals"]["seats"]["quantity"] == 3
    first, last = (datetime.fromisoformat(found[name]) for name in ("start_at", "end_at"))
    assert (last - first).days == 30
    assert first < datetime.now(UTC) < last


def test_operators_see_all_organisations_together(sample_database: Any, ops: httpx.Client) -> None:
    for number in (1, 2, 17, 33):
        use(sample_database, number, "2026-06-02T00:00:00Z", number)
    assert ops.get(f"{API}/usage", params=JUNE).json()["totals"]["seats"]["quantity"] == 53
    one = ops.get(f"{API}/usage", params=JUNE | {"organization": "blue-harbor"}).json()
    assert one["totals"]["seats"]["quantity"] == 2


def test_a_metric_with_a_price_has_a_cost(sample_database: Any, ops: httpx.Client) -> None:
    sample_database.execute(
        "insert into kiket_analytics.usage_events (organization_id, metric, quantity, unit, recorded_at)"
        " values (1, 'storage', 3, 'gb', '2026-06-02T00:00:00Z')"
    )
    with (
        Console(
            Database(sample_database.url), Path("/nowhere"), prices={"storage": Decimal("0.333333")}
        ).serving() as s,
        s.client() as client,
    ):
        found = client.get(f"{API}/usage", params=JUNE).json()
    assert found["totals"]["storage"] == {"quantity": 3, "unit": "gb", "estimated_cost_cents": 1.0}


def test_a_second_unit_of_a_metric_is_not_added_to_the_first(sample_database: Any, acme: httpx.Client) -> None:
    use(sample_database, 1, "2026-06-02T00:00:00Z", 1, "storage", "gb")
    use(sample_database, 1, "2026-06-02T00:00:00Z", 500, "storage", "mb")
    found = acme.get(f"{API}/usage", params=JUNE).json()
    assert {name: total["quantity"] for name, total in found["totals"].items()} == {"storage": 1, "storage[mb]": 500}


def test_csv_is_given_to_who_accepts_it(sample_database: Any, acme: httpx.Client) -> None:
    use(sample_database, 1, "2026-06-02T00:00:00Z", "2.50", "=cmd()", 'a,"b"')
    use(sample_database, 1, "2026-06-03T00:00:00Z", 100)
    answer = acme.get(f"{API}/usage", params=JUNE, headers={"Accept": "text/csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="usage-2026-06-01-2026-07-01.csv"'
    assert answer.headers["vary"] == "Accept"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert rows == [
        {"date": "2026-06-02", "metric": "'=cmd()", "quantity": "2.5", "unit": 'a,"b"', "estimated_cost_cents": ""},
        {"date": "2026-06-03", "metric": "seats", "quantity": "100", "unit": "seat", "estimated_cost_cents": ""},
    ]


def test_the_sums_agree_with_the_events_whoever_writes_at_the_same_time(sample_database: Any, ledger: Database) -> None:
    days = [f"2026-0{month}-0{day}T{hour:02}:00:00Z" for month in (1, 2) for day in (1, 2, 9) for hour in (0, 23)]

    def write(number: int) -> None:
        with sample_database.connect() as connection:
            for turn in range(40):
                connection.execute(
                    "insert into kiket_analytics.usage_events (organization_id, metric, quantity, unit, recorded_at)"
                    " select organization, metric, 1.5, 'u', at from unnest(%s::bigint[]) as organization,"
                    " unnest(%s::text[]) as metric, unnest(%s::timestamptz[]) as at",
                    # In another order each time: nobody may wait for somebody who waits for them.
                    [[1, 17, 2][:: (-1) ** turn], ["a", "b"][:: (-1) ** number], days[:: (-1) ** (turn + number)]],
                )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    for organization_id, where in ((1, "organization_id = 1"), (17, "organization_id = 17"), (None, "true")):
        for period in Period:
            expected = sample_database.rows(
                f"select date_trunc('{period}', recorded_at at time zone 'utc')::date as start, metric, unit,"
                f" sum(quantity) as quantity from kiket_analytics.usage_events where {where}"
                " group by 1, 2, 3 order by 1, 2, 3"
            )
            found = usage.series(
                ledger,
                organization_id,
                first_day=datetime(2025, 12, 1).date(),
                last_day=datetime(2026, 12, 1).date(),
                period=period,
            )
            assert [vars(one) for one in found] == expected
    month = datetime(2026, 2, 1).date()
    costly = usage.costliest(ledger, {"a": Decimal(2), "b": Decimal("0.5")}, month=month, limit=10)
    # Those that the platform has.
    assert [(one.slug, one.quantity, one.cents) for one in costly] == [
        ("acme", 2880, 3600),
        ("blue-harbor", 2880, 3600),
    ]
