"""When an organisation is due, as values."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiket_worker.ledger.organizations import Plan
from kiket_worker.schedule.cadence import Cadence

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)

cadences = st.builds(
    Cadence,
    plan=st.sampled_from(Plan),
    enabled=st.just(True),
    refresh_interval_hours=st.none() | st.integers(1, 8760),
)
last_runs = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))


@pytest.mark.parametrize(
    ("plan", "hours"), [(Plan.STARTER, 24), (Plan.TEAM, 12), (Plan.BUSINESS, 6), (Plan.ENTERPRISE, 1)]
)
def test_a_plan_has_its_default_interval(plan: Plan, hours: int) -> None:
    assert Cadence(plan, enabled=True).interval == timedelta(hours=hours)


def test_an_own_interval_comes_before_the_plans() -> None:
    assert Cadence(Plan.STARTER, enabled=True, refresh_interval_hours=3).interval == timedelta(hours=3)


def test_who_never_ran_is_due_at_any_time_and_infinitely_urgent() -> None:
    cadence = Cadence(Plan.TEAM, enabled=True)
    assert cadence.is_due(NOW)
    assert cadence.urgency(NOW) == float("inf")


@pytest.mark.parametrize("last_run_at", [None, NOW - timedelta(days=400)])
def test_who_is_not_enabled_is_never_due(last_run_at: datetime | None) -> None:
    cadence = Cadence(Plan.ENTERPRISE, enabled=False, last_run_at=last_run_at)
    assert not cadence.is_due(NOW)


@given(cadences, last_runs)
def test_it_becomes_due_exactly_one_interval_after_the_last_run(cadence: Cadence, last_run_at: datetime) -> None:
    cadence = replace(cadence, last_run_at=last_run_at)
    assert cadence.is_due(last_run_at + cadence.interval)
    assert not cadence.is_due(last_run_at + cadence.interval - TICK)


@given(cadences, last_runs, st.timedeltas(timedelta(0), timedelta(days=800)))
def test_once_due_it_stays_due_and_gets_no_less_urgent(
    cadence: Cadence, last_run_at: datetime, later: timedelta
) -> None:
    cadence = replace(cadence, last_run_at=last_run_at)
    due_at = last_run_at + cadence.interval
    assert cadence.is_due(due_at + later)
    assert cadence.urgency(due_at + later) >= cadence.urgency(due_at) == 0


@given(cadences, last_runs)
def test_urgency_counts_intervals_and_not_hours(cadence: Cadence, last_run_at: datetime) -> None:
    cadence = replace(cadence, last_run_at=last_run_at)
    assert cadence.urgency(last_run_at + 2 * cadence.interval) == 1
