"""What ticker, queues and workers do, event by event, without a clock and without services.

The rules are the product's own: who is due and how urgently (`Cadence`), in which order runs are published
(`publishing_order`), and which queue a worker asks first (`CONSUMED`). Each queue is first in, first out, as RabbitMQ's
are; a worker's thread takes one message when it is free. Publishing takes no time.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush
from random import Random

from benchmarks.simulation.population import Organization
from kiket_worker.contract import QUEUE_REQUESTS, QUEUE_SCHEDULED
from kiket_worker.ledger.organizations import Plan
from kiket_worker.queue.broker import CONSUMED
from kiket_worker.schedule.cadence import publishing_order


@dataclass(frozen=True)
class Setting:
    """What is simulated. `threads` are all refreshes that go on at a time: workers times their concurrency.

    Nothing becomes due or is asked for after `length`; what waits by then is still done.
    """

    threads: int
    length: timedelta
    tick: timedelta = timedelta(seconds=30)
    requests_per_hour: float = 0.0


@dataclass(frozen=True)
class Message:
    """A run that waits in a queue. `number` tells those apart that are otherwise equal, as a run's id does."""

    number: int
    organization: int
    plan: Plan
    queue: str
    due_at: datetime
    queued_at: datetime
    urgency: float | None


@dataclass(frozen=True)
class Run:
    """A run that was done."""

    message: Message
    started_at: datetime
    ended_at: datetime


@dataclass
class Outcome:
    """What has happened. `presence` is the sum of what was in queues and in hand, in seconds times runs."""

    runs: list[Run] = field(default_factory=list)
    queued: int = 0
    presence: float = 0.0
    longest_queue: int = 0
    ended_at: datetime | None = None


def simulate(
    organizations: Sequence[Organization],
    setting: Setting,
    service_time: Callable[[Random], float],
    *,
    now: datetime,
    random: Random,
) -> Outcome:
    """Let the organisations be refreshed from `now` on; `service_time` draws the seconds of one refresh."""
    return _Simulation(organizations, setting, service_time, now, random).run()


class _Simulation:
    def __init__(
        self,
        organizations: Sequence[Organization],
        setting: Setting,
        service_time: Callable[[Random], float],
        now: datetime,
        random: Random,
    ) -> None:
        self._organizations = {one.number: one for one in organizations}
        self._setting = setting
        self._service_time = service_time
        self._now = self._began = now
        self._random = random
        self._until = now + setting.length
        self._due = [(one.last_run_at + one.cadence(one.last_run_at).interval, one.number) for one in organizations]
        heapify(self._due)
        self._last_run_at = {one.number: one.last_run_at for one in organizations}
        self._queues: dict[str, deque[Message]] = {name: deque() for name in CONSUMED}
        self._in_hand: list[tuple[datetime, int, Run]] = []
        self._number = 0
        self._outcome = Outcome()

    def run(self) -> Outcome:
        next_tick: datetime | None = self._now
        next_request = self._next_request()
        while True:
            next_end = self._in_hand[0][0] if self._in_hand else None
            moments = [moment for moment in (next_end, next_tick, next_request) if moment is not None]
            if not moments:
                break
            self._pass_until(min(moments))
            if self._now == next_end:
                self._end()
            elif self._now == next_tick:
                self._tick()
                next_tick = self._now + self._setting.tick
                if next_tick > self._until:
                    next_tick = None
            else:
                self._ask()
                next_request = self._next_request()
            self._begin()
        self._outcome.ended_at = self._now
        return self._outcome

    def _pass_until(self, moment: datetime) -> None:
        waiting = sum(map(len, self._queues.values()))
        self._outcome.longest_queue = max(self._outcome.longest_queue, waiting)
        self._outcome.presence += (waiting + len(self._in_hand)) * (moment - self._now).total_seconds()
        self._now = moment

    def _tick(self) -> None:
        messages = []
        while self._due and self._due[0][0] <= self._now:
            due_at, number = heappop(self._due)
            organization = self._organizations[number]
            cadence = organization.cadence(self._last_run_at[number])
            assert cadence.is_due(self._now)
            messages.append(self._message(organization, QUEUE_SCHEDULED, due_at, cadence.urgency(self._now)))
        messages.sort(key=lambda one: publishing_order(one.urgency, one.queued_at, one.number))
        self._publish(messages)

    def _ask(self) -> None:
        organization = self._random.choice(list(self._organizations.values()))
        self._publish([self._message(organization, QUEUE_REQUESTS, self._now, None)])

    def _next_request(self) -> datetime | None:
        if not self._setting.requests_per_hour:
            return None
        moment = self._now + timedelta(hours=self._random.expovariate(self._setting.requests_per_hour))
        return moment if moment <= self._until else None

    def _message(self, organization: Organization, queue: str, due_at: datetime, urgency: float | None) -> Message:
        self._number += 1
        return Message(self._number, organization.number, organization.plan, queue, due_at, self._now, urgency)

    def _publish(self, messages: Sequence[Message]) -> None:
        self._outcome.queued += len(messages)
        for message in messages:
            self._queues[message.queue].append(message)

    def _begin(self) -> None:
        while len(self._in_hand) < self._setting.threads:
            queue = next((self._queues[name] for name in CONSUMED if self._queues[name]), None)
            if queue is None:
                return
            message = queue.popleft()
            ended_at = self._now + timedelta(seconds=self._service_time(self._random))
            heappush(self._in_hand, (ended_at, message.number, Run(message, self._now, ended_at)))

    def _end(self) -> None:
        _, _, run = heappop(self._in_hand)
        self._outcome.runs.append(run)
        number = run.message.organization
        if run.message.queue == QUEUE_SCHEDULED:
            # As the ledger has it: an organisation with an active run is not queued again, and its next interval
            # begins with the start of this run.
            self._last_run_at[number] = run.started_at
            due_at = run.started_at + self._organizations[number].cadence(run.started_at).interval
            if due_at <= self._until:
                heappush(self._due, (due_at, number))
