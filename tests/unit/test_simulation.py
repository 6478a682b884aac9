"""The simulation keeps the laws of queues, and the formula for sizing says what it says."""

from collections import Counter
from datetime import timedelta
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulation import sizing
from benchmarks.simulation.population import counts, population
from benchmarks.simulation.simulation import Outcome, Setting, simulate
from benchmarks.simulation.sizing import BEGAN
from kiket_worker.contract import QUEUE_REQUESTS, QUEUE_SCHEDULED
from kiket_worker.ledger.organizations import Plan
from kiket_worker.schedule.cadence import publishing_order

MIXES = st.fixed_dictionaries({plan: st.integers(1, 40) for plan in Plan})


@st.composite
def outcomes(draw: st.DrawFn) -> tuple[int, Outcome]:
    """A simulation of anything small, and its number of threads."""
    random = Random(draw(st.integers(0, 2**32)))
    outage = timedelta(hours=draw(st.sampled_from([0, 0, 5, 24])))
    organizations = population(draw(MIXES), now=BEGAN, outage=outage, random=random)
    threads = draw(st.integers(1, 6))
    setting = Setting(
        threads, timedelta(hours=draw(st.integers(1, 5))), requests_per_hour=draw(st.sampled_from([0, 20]))
    )
    mean = draw(st.sampled_from([0.1, 7.0, 200.0]))
    outcome = simulate(organizations, setting, lambda r: r.uniform(0.5, 1.5) * mean, now=BEGAN, random=random)
    return threads, outcome


@settings(max_examples=40, deadline=None)
@given(outcomes())
def test_every_message_is_done_once_and_nobody_is_in_two_runs_at_a_time(made: tuple[int, Outcome]) -> None:
    _, outcome = made
    assert len(outcome.runs) == outcome.queued
    assert max(Counter(run.message.number for run in outcome.runs).values(), default=1) == 1
    scheduled = [run for run in outcome.runs if run.message.queue == QUEUE_SCHEDULED]
    by_organization: dict[int, list[tuple[object, object]]] = {}
    for run in sorted(scheduled, key=lambda run: run.started_at):
        by_organization.setdefault(run.message.organization, []).append((run.started_at, run.ended_at))
    for spans in by_organization.values():
        assert all(earlier[1] <= later[0] for earlier, later in pairwise(spans))  # type: ignore[operator]


@settings(max_examples=40, deadline=None)
@given(outcomes())
def test_each_queue_is_first_in_first_out_and_requests_overtake_the_schedule(made: tuple[int, Outcome]) -> None:
    _, outcome = made
    for queue in (QUEUE_REQUESTS, QUEUE_SCHEDULED):
        runs = [run for run in outcome.runs if run.message.queue == queue]
        runs.sort(
            key=lambda run: (
                run.message.queued_at,
                publishing_order(run.message.urgency, run.message.queued_at, run.message.number),
            )
        )
        assert all(earlier.started_at <= later.started_at for earlier, later in pairwise(runs))
    requests = [run for run in outcome.runs if run.message.queue == QUEUE_REQUESTS]
    for request in requests:
        overtaken = [
            run
            for run in outcome.runs
            if run.message.queue == QUEUE_SCHEDULED and request.message.queued_at < run.started_at < request.started_at
        ]
        assert overtaken == []


@settings(max_examples=40, deadline=None)
@given(outcomes())
def test_threads_are_all_used_before_anybody_waits_and_never_more_than_there_are(made: tuple[int, Outcome]) -> None:
    threads, outcome = made
    for run in outcome.runs:
        others = [one for one in outcome.runs if one is not run and one.started_at <= run.started_at < one.ended_at]
        assert len([one for one in others if one.started_at < run.started_at]) < threads
        if run.started_at > run.message.queued_at:
            just_before = [one for one in outcome.runs if one.started_at < run.started_at <= one.ended_at]
            assert len(just_before) >= threads, "it waited though a thread was free"


@settings(max_examples=40, deadline=None)
@given(outcomes())
def test_littles_law_holds(made: tuple[int, Outcome]) -> None:
    """Over a time that begins and ends empty, presence is the sum of all stays: L = lambda W, times the time."""
    _, outcome = made
    stays = sum((run.ended_at - run.message.queued_at).total_seconds() for run in outcome.runs)
    assert outcome.presence == pytest.approx(stays, rel=1e-6, abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(MIXES, st.integers(1, 5), st.integers(0, 1000))
def test_after_an_outage_who_is_most_overdue_for_its_interval_is_begun_first(
    mix: dict[Plan, int], threads: int, seed: int
) -> None:
    outcome = sizing.herd(mix, threads, lambda r: r.uniform(1, 20), seed=seed)
    first = [run for run in outcome.runs if run.message.queued_at == BEGAN]
    assert len(first) == sum(mix.values())
    first.sort(key=lambda run: (run.started_at, run.message.number))
    urgencies = [run.message.urgency for run in sorted(first, key=lambda run: (run.started_at, -run.message.urgency))]
    assert urgencies == sorted(urgencies, reverse=True)
    # An outage of a day is 24 intervals of one plan, and one of another.
    plans = [run.message.plan for run in sorted(first, key=lambda run: (run.started_at, -run.message.urgency))]
    assert plans == [plan for plan in reversed(Plan) for _ in range(mix[plan])]


def test_nobody_waits_longer_than_a_tick_where_threads_are_plenty() -> None:
    outcome = sizing.hour(counts(2000), 500, lambda _: 1.0)
    assert outcome.runs
    assert all(0 <= lag <= sizing.TICK.total_seconds() for plan in sizing.lags(outcome.runs).values() for lag in plan)


def test_the_mix_is_the_plans_and_counts_everybody() -> None:
    found = counts(50_001)
    assert sum(found.values()) == 50_001
    assert found[Plan.ENTERPRISE] == 2500


@pytest.mark.parametrize(("organizations", "service_seconds"), [(10_000, 7.0), (20_000, 2.0)], ids=str)
def test_the_formula_is_within_a_tenth_of_what_the_simulation_needs_after_an_outage(
    organizations: int, service_seconds: float
) -> None:
    of_plans, lag = counts(organizations), sizing.interval(Plan.ENTERPRISE) / 10
    by_formula = sizing.needed(of_plans, service_seconds, plan=Plan.ENTERPRISE, lag=lag).threads

    def in_time(threads: int) -> bool:
        outcome = sizing.herd(of_plans, threads, lambda r: r.uniform(0.7, 1.3) * service_seconds)
        return sizing.latest(outcome, Plan.ENTERPRISE) <= lag.total_seconds()

    assert in_time(by_formula)
    by_simulation = sizing.fewest(in_time, by_formula)
    assert by_simulation == pytest.approx(by_formula, rel=0.1, abs=1)


@pytest.mark.parametrize("lag", [2 * sizing.TICK, timedelta(minutes=6)], ids=str)
def test_the_formula_is_within_a_tenth_of_what_the_simulation_needs_in_an_hour_as_any(lag: timedelta) -> None:
    of_plans, service_seconds = counts(20_000), 20.0
    by_formula = sizing.steadily(of_plans, service_seconds, lag=lag)

    def in_time(threads: int) -> bool:
        outcome = sizing.hour(of_plans, threads, lambda r: r.uniform(0.7, 1.3) * service_seconds)
        return all(sizing.latest(outcome, plan) <= lag.total_seconds() for plan in Plan)

    by_simulation = sizing.fewest(in_time, 60)
    assert by_simulation == pytest.approx(by_formula, rel=0.1)


def test_a_lag_that_no_number_of_threads_gives_is_refused() -> None:
    with pytest.raises(ValueError, match="ticks of half of it"):
        sizing.steadily(counts(100), 1.0, lag=sizing.TICK)


def test_fewest_finds_the_first_that_holds() -> None:
    assert [sizing.fewest(lambda n, least=least: n >= least, 40) for least in (1, 2, 17, 40)] == [1, 2, 17, 40]
