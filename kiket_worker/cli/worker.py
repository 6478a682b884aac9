"""`kiket-worker worker`: take messages and refresh."""

import threading
import time
from typing import TYPE_CHECKING, Annotated

import typer

from kiket_worker import events
from kiket_worker.cli.monitoring import monitored
from kiket_worker.cli.signals import Signals
from kiket_worker.errors import UsageError
from kiket_worker.ledger import connections
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.level import check_level
from kiket_worker.queue.broker import MemoryBroker, QuorumBroker, open_broker
from kiket_worker.queue.consumers import Consumers
from kiket_worker.queue.publisher import publish_run
from kiket_worker.refresh.services import close, open_services, prepare
from kiket_worker.refresh.worker import RefreshWorker
from kiket_worker.settings import IsolationMode, Settings, load_settings
from kiket_worker.telemetry.logs import set_up_logs

if TYPE_CHECKING:
    from kiket_worker.monitoring.endpoint import Monitoring


def worker(
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=64, help="Refreshes at a time; KIKET_CONCURRENCY unless given.")
    ] = None,
) -> None:
    """Take refresh messages and work on them until a signal comes.

    The first SIGTERM or SIGINT lets the refreshes in hand finish within the grace period (KIKET_GRACE_SECONDS); after
    it, or at the second signal, they are stopped and handed back.
    """
    set_up_logs()
    settings = load_settings()
    if settings.in_one_process:
        raise UsageError(
            "RABBITMQ_URL is memory://, which no other process can reach; `kiket-worker ticker` works by itself then"
        )
    threads = concurrency or settings.concurrency
    with open_database(settings, threads) as database:
        check_level(database)
        broker = open_broker(settings)
        # Only now: while connecting, a signal ends the command at once.
        with Signals() as signals, monitored(settings, database, broker) as monitoring:
            working = Working(settings, database, broker, threads)
            if monitoring:
                working.add_to(monitoring)
            signals.wait()
            working.end(signals)


def open_database(settings: Settings, threads: int) -> Database:
    """The ledger, for a process with so many threads that refresh."""
    return Database(
        settings.database_url.get_secret_value(),
        max_connections=connections.pooled(threads),
        idle_in_transaction_seconds=settings.lease_ttl_seconds,
    )


class Working:
    """A worker's threads, going on behind whatever the command does meanwhile."""

    def __init__(
        self, settings: Settings, database: Database, broker: MemoryBroker | QuorumBroker, threads: int
    ) -> None:
        self._broker = broker
        self._threads = threads
        self._grace_seconds = settings.grace_seconds
        self._services = open_services(settings, database, lambda run: publish_run(broker, run))
        self._worker = RefreshWorker(self._services)
        self._consumers = Consumers(broker, self._worker.handle, concurrency=threads)
        self._consumers.start()
        prepare(self._services)
        events.WORKER_STARTED.log(worker=self._services.worker, concurrency=threads)
        if self._services.isolation.mode is IsolationMode.SHARED:
            events.ISOLATION_WEAKENED.log(worker=self._services.worker)

    def add_to(self, monitoring: "Monitoring") -> None:
        """Have the threads and their load told of."""
        monitoring.add_worker(
            self._consumers.lives, self._worker.in_hand, concurrency=self._threads, store=self._services.store
        )

    def end(self, signals: Signals) -> None:
        """Take no more messages and let what is in hand finish, within the grace period and until a signal insists."""
        self._worker.finish()
        until = time.monotonic() + self._grace_seconds
        stopper = threading.Thread(target=self._consumers.stop)
        stopper.start()
        while stopper.is_alive():
            if signals.insisted.is_set() or time.monotonic() >= until:
                self._worker.stop()
            stopper.join(0.1)
        close(self._services)
        self._broker.close()
        events.WORKER_STOPPED.log(worker=self._services.worker)
