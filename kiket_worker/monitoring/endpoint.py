"""A process's monitoring, put together from its settings: what is common to ticker and worker, and what each adds."""

from collections.abc import Callable
from typing import Any, Self

from prometheus_client import CollectorRegistry, ProcessCollector

from kiket_worker import events
from kiket_worker.artifacts.store import Store
from kiket_worker.ledger.backlog import measure
from kiket_worker.ledger.database import Database
from kiket_worker.monitoring.gauges import LedgerGauges, QueueGauges, WorkerGauges
from kiket_worker.monitoring.question import PATIENCE_SECONDS, Question
from kiket_worker.monitoring.readiness import asks_postgres, asks_store
from kiket_worker.monitoring.server import MonitoringServer
from kiket_worker.monitoring.vitals import Vitals
from kiket_worker.queue.broker import MemoryBroker, QuorumBroker
from kiket_worker.telemetry.metrics import EventMetrics


class Monitoring:
    """Counts this process's events and answers at an address for as long as its block lasts."""

    def __init__(self, address: str, database: Database, broker: MemoryBroker | QuorumBroker) -> None:
        """Take the address, HOST:PORT. Raises `InvalidSetting` where it cannot be had."""
        self._database = database
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._metrics = EventMetrics(self._registry)
        self._vitals = Vitals()
        self._depths = Question(lambda: broker.depths(timeout_seconds=PATIENCE_SECONDS))
        self._services: dict[str, Question[Any]] = {
            "postgres": Question(asks_postgres(database, timeout_seconds=PATIENCE_SECONDS)),
            "rabbitmq": self._depths,
        }
        self._server = MonitoringServer(address, self._registry, self._vitals, self._services)

    def __enter__(self) -> Self:
        self._end = events.listen(self._metrics.note)
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self._end()

    def add_ticker(self, goes_on: Callable[[], bool]) -> None:
        """The process ticks: it tells of ledger and queues, which are the same whichever ticker tells of them."""
        self._vitals.watch("tick loop", goes_on)
        database = self._database
        self._registry.register(LedgerGauges(Question(lambda: measure(database, timeout_seconds=PATIENCE_SECONDS))))
        self._registry.register(QueueGauges(self._depths))

    def add_worker(
        self, lives: Callable[[], bool], in_hand: Callable[[], int], *, concurrency: int, store: Store
    ) -> None:
        """The process refreshes: it tells of its threads and its load, and needs the artifact store."""
        self._vitals.watch("consumers", lives)
        self._services["artifacts"] = Question(asks_store(store))
        self._registry.register(WorkerGauges(in_hand, concurrency))
