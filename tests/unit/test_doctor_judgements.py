"""What doctor says of releases, clocks, load and connections, from values alone."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kiket_worker.doctor.capacity import judge_connections, judge_load
from kiket_worker.doctor.finding import Severity
from kiket_worker.doctor.services import judge_clocks, judge_postgres, judge_rabbitmq

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)
LOAD: dict[str, Any] = {
    "workers": 2,
    "seconds_per_run": 6.0,
    "runs_per_hour": 60.0,
    "oldest_waiting_seconds": 5.0,
    "server_connections": 97,
    "database_connections": -1,
    "login_connections": -1,
    "others": 3,
}


@pytest.mark.parametrize(("version", "said"), [(15, [Severity.ERROR]), (16, [Severity.WARNING]), (17, []), (18, [])])
def test_an_old_postgres_is_told_of(version: int, said: list[Severity]) -> None:
    assert [finding.severity for finding in judge_postgres(version)] == said


@pytest.mark.parametrize(
    ("version", "is_old"), [("3.7.28", True), ("3.8.0", False), ("3.10.8", False), ("4.1", False), ("", False)]
)
def test_an_old_rabbitmq_is_told_of(version: str, is_old: bool) -> None:
    assert [finding.kind for finding in judge_rabbitmq(version)] == (["rabbitmq_too_old"] if is_old else [])


@pytest.mark.parametrize(
    ("off", "said"),
    [(0, []), (-4, []), (4, []), (6, [Severity.WARNING]), (-6, [Severity.WARNING]), (301, [Severity.ERROR])],
)
def test_clocks_that_differ_are_told_of(off: float, said: list[Severity]) -> None:
    told = NOON + timedelta(seconds=1)  # How long the answer took is nobody's clock.
    middle = NOON + timedelta(seconds=off) + (timedelta(seconds=1) if off > 0 else timedelta())
    assert [finding.severity for finding in judge_clocks(NOON, told, middle)] == said


def test_enough_is_not_told_of() -> None:
    assert [*judge_load(LOAD, 10, 2), *judge_connections(LOAD, 2)] == []


@pytest.mark.parametrize(
    ("values", "waiting", "kind", "words"),
    [
        (
            {"workers": 0, "oldest_waiting_seconds": 1000.0},
            3,
            "workers_absent",
            "3 runs wait, the first for 17 minutes",
        ),
        ({"runs_per_hour": 2400.0}, 0, "capacity_short", "4.0 at a time, and 2 workers do 4"),
        ({}, 10_000, "backlog_large", "about 4.2 hours"),
    ],
)
def test_too_few_workers_are_told_of(values: dict[str, Any], waiting: int, kind: str, words: str) -> None:
    (finding,) = judge_load(LOAD | values, waiting, 2)
    assert finding.kind == kind
    assert words in finding.message


def test_how_many_workers_would_do_is_told() -> None:
    (finding,) = judge_load(LOAD | {"runs_per_hour": 2400.0}, 0, 2)
    assert finding.remedy.startswith("3 workers")
    assert list(judge_load(LOAD | {"runs_per_hour": 2400.0, "workers": 3}, 0, 2)) == []


@pytest.mark.parametrize(
    "values", [{"workers": 0, "oldest_waiting_seconds": 800.0}, {"workers": 0}, {"seconds_per_run": None}]
)
def test_what_nobody_can_know_yet_is_not_told(values: dict[str, Any]) -> None:
    assert list(judge_load(LOAD | values, 3, 2)) == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"server_connections": 30}, "max_connections leaves 30"),
        ({"database_connections": 36}, "the database's limit is 36"),
        ({"login_connections": 20}, "whose limit is 20"),
        ({"others": 70}, "beside 70 of others"),
        ({"workers": 8}, "8 workers"),
    ],
)
def test_too_few_connections_are_told_of(values: dict[str, Any], words: str) -> None:
    findings = list(judge_connections(LOAD | values, 2))
    assert {finding.kind for finding in findings} == {"connections_short"}
    assert any(words in finding.message for finding in findings)


def test_every_process_that_opens_connections_is_counted() -> None:
    """Two workers with 9 and 6, one of them with 1 and 4 more, two tickers with 8, consoles with 10 and 6, 3 others."""
    assert list(judge_connections(LOAD | {"server_connections": 86, "login_connections": 55}, 2)) == []
    assert len(list(judge_connections(LOAD | {"server_connections": 85, "login_connections": 54}, 2))) == 2
