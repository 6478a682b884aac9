"""What is looked up when somebody asks: the ledger's backlog, the queues, and this worker's own load.

A service that is away or hangs costs its own gauges, and `kiket_ledger_up` or `kiket_queue_up` says so.
"""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from kiket_worker.errors import KiketError
from kiket_worker.ledger.backlog import Backlog
from kiket_worker.ledger.organizations import PLAN_INTERVAL_HOURS
from kiket_worker.ledger.runs import Status
from kiket_worker.monitoring.question import Question
from kiket_worker.telemetry.metrics import OTHER


class LedgerGauges(Collector):
    """The ledger's own state: any number of processes that look at one ledger say the same."""

    def __init__(self, backlog: Question[Backlog]) -> None:
        self._backlog = backlog

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """No metric, so that being registered asks nothing of the ledger."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """See `Collector.collect`."""
        try:
            backlog = self._backlog.answer()
        except KiketError:
            yield _gauge("kiket_ledger_up", "1 if the ledger answers, else 0.", 0)
            return
        yield _gauge("kiket_ledger_up", "1 if the ledger answers, else 0.", 1)
        yield _gauge("kiket_due_organizations", "Organisations that are due and that nobody refreshes.", backlog.due)
        yield _gauge(
            "kiket_oldest_due_seconds", "Seconds since the first of them became due.", backlog.oldest_due_seconds
        )
        yield _by(
            "kiket_plan_lag_seconds",
            "Seconds beyond its interval of the latest organisation of a plan.",
            "plan",
            _by_plan(backlog.lag_seconds),
        )
        yield _by("kiket_active_runs", "Runs that have not ended.", "status", _by_status(backlog.runs))
        yield _by(
            "kiket_leases",
            "Schemas that somebody writes, by whether the lease is held or has expired.",
            "state",
            {"held": backlog.leases_held, "expired": backlog.leases_expired},
        )
        yield _gauge("kiket_quarantined_organizations", "Organisations that are in quarantine.", backlog.quarantined)
        if backlog.tick_age_seconds is not None:
            yield _gauge("kiket_tick_age_seconds", "Seconds since any ticker ticked.", backlog.tick_age_seconds)


class QueueGauges(Collector):
    """Messages that wait in the queues, dead letters among them."""

    def __init__(self, depths: Question[dict[str, int]]) -> None:
        self._depths = depths

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """No metric, so that being registered asks nothing of RabbitMQ."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """See `Collector.collect`."""
        try:
            depths = self._depths.answer()
        except KiketError:
            yield _gauge("kiket_queue_up", "1 if RabbitMQ answers, else 0.", 0)
            return
        yield _gauge("kiket_queue_up", "1 if RabbitMQ answers, else 0.", 1)
        yield _by("kiket_queue_messages", "Messages that wait in a queue.", "queue", depths)


class WorkerGauges(Collector):
    """How busy this worker is."""

    def __init__(self, in_hand: Callable[[], int], concurrency: int) -> None:
        self._in_hand = in_hand
        self._concurrency = concurrency

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """See `Collector.collect`."""
        yield _gauge("kiket_worker_refreshes", "Refreshes that this worker has in hand.", self._in_hand())
        yield _gauge("kiket_worker_concurrency", "Refreshes that it does at a time at most.", self._concurrency)


def _by_plan(lag_seconds: Mapping[str, float]) -> dict[str, float]:
    """Plans that the platform has beside those of the design share one series."""
    found = dict.fromkeys([*PLAN_INTERVAL_HOURS, OTHER], 0.0)
    for plan, seconds in lag_seconds.items():
        label = plan if plan in PLAN_INTERVAL_HOURS else OTHER
        found[label] = max(found[label], seconds)
    return {str(plan): seconds for plan, seconds in found.items()}


def _by_status(runs: Mapping[str, int]) -> dict[str, float]:
    return {status.value: runs.get(status.value, 0) for status in Status if not status.has_ended}


def _gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, value=value)


def _by(name: str, meaning: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, meaning, labels=[label])
    for of, value in values.items():
        family.add_metric([of], value)
    return family
