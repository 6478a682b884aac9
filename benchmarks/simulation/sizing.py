"""How many refreshes have to go on at a time: the formula of docs/operations.md, and what a simulation needs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from random import Random

from benchmarks.figures import percentile
from benchmarks.simulation.population import population
from benchmarks.simulation.simulation import Outcome, Run, Setting, simulate
from kiket_worker.doctor.capacity import BUSY_SHARE
from kiket_worker.ledger.organizations import Plan
from kiket_worker.schedule.cadence import Cadence

BEGAN = datetime(2026, 6, 15, 12, tzinfo=UTC)
TICK = timedelta(seconds=30)
# How much of the time in which everything has to be begun: the last of it would otherwise be begun at its very end.
BEGUN_BY = 0.99


@dataclass(frozen=True)
class Needed:
    """Threads, as fractions, by what asks for them; `threads` is the whole number that does for all."""

    steady: float
    first_round: float
    second_round: float

    @property
    def threads(self) -> int:
        """The most that any of the three asks for."""
        return ceil(max(self.steady, self.first_round, self.second_round))


def interval(plan: Plan) -> timedelta:
    """The plan's, as the product has it."""
    return Cadence(plan, enabled=True).interval


def runs_per_second(of_plans: Mapping[Plan, int]) -> float:
    """How many organisations become due in a second."""
    return sum(count / interval(plan).total_seconds() for plan, count in of_plans.items())


def steadily(of_plans: Mapping[Plan, int], service_seconds: float, *, lag: timedelta, tick: timedelta = TICK) -> float:
    """Threads for the schedule alone, busy for `BUSY_SHARE` of the time.

    Who has just become due waits for the next tick, and then for its batch, which is done before the one after it.
    Raises `ValueError` for a lag of less than these two ticks: no number of threads is what that lacks.
    """
    if lag < 2 * tick:
        raise ValueError(f"a lag of {lag} needs ticks of half of it at most, and they are {tick}")
    return runs_per_second(of_plans) * service_seconds / BUSY_SHARE


def needed(
    of_plans: Mapping[Plan, int], service_seconds: float, *, plan: Plan, lag: timedelta, tick: timedelta = TICK
) -> Needed:
    """Threads with which a plan's organisations wait no longer than `lag`, in an hour as any and after a long outage.

    After an outage that is longer than every interval all are due at once, the plan of the shortest interval first. Its
    organisations have to be begun within the lag; and they are due again an interval later, behind whatever is left
    then: so all of it has to be begun within `BEGUN_BY` of an interval and a lag.
    """
    first = sum(count for other, count in of_plans.items() if interval(other) <= interval(plan))
    everybody = sum(of_plans.values())
    return Needed(
        steadily(of_plans, service_seconds, lag=lag, tick=tick),
        first * service_seconds / lag.total_seconds(),
        everybody * service_seconds / (interval(plan) + lag).total_seconds() / BEGUN_BY,
    )


def hour(of_plans: Mapping[Plan, int], threads: int, draw: Callable[[Random], float], *, seed: int = 1) -> Outcome:
    """An hour as any: the second one of a simulation that begins with nobody waiting."""
    random = Random(seed)  # noqa: S311  # the same each time is what is wanted
    organizations = population(of_plans, now=BEGAN, outage=timedelta(0), random=random)
    setting = Setting(threads, timedelta(hours=2), TICK)
    outcome = simulate(organizations, setting, draw, now=BEGAN, random=random)
    outcome.runs = [run for run in outcome.runs if run.message.due_at >= BEGAN + timedelta(hours=1)]
    return outcome


def herd(of_plans: Mapping[Plan, int], threads: int, draw: Callable[[Random], float], *, seed: int = 1) -> Outcome:
    """The four hours after an outage of a day."""
    random = Random(seed)  # noqa: S311  # as above
    organizations = population(of_plans, now=BEGAN, outage=timedelta(days=1), random=random)
    return simulate(organizations, Setting(threads, timedelta(hours=4), TICK), draw, now=BEGAN, random=random)


def lags(runs: Sequence[Run]) -> dict[Plan, list[float]]:
    """Seconds from when each could have begun to its start, by plan: since it was due, or since the outage's end."""
    found: dict[Plan, list[float]] = {}
    for run in runs:
        since = max(run.message.due_at, BEGAN)
        found.setdefault(run.message.plan, []).append((run.started_at - since).total_seconds())
    return found


def fewest(holds: Callable[[int], bool], most: int) -> int:
    """The fewest threads with which a condition holds that holds with `most`, and with more if it does with fewer."""
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def latest(outcome: Outcome, plan: Plan) -> float:
    """The 99th percentile of a plan's lags, in seconds."""
    return percentile(lags(outcome.runs)[plan], 99)
