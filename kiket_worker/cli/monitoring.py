"""Monitoring of the commands that stay: there where it is asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kiket_worker.ledger.database import Database
from kiket_worker.queue.broker import MemoryBroker, QuorumBroker
from kiket_worker.settings import Settings

if TYPE_CHECKING:
    from kiket_worker.monitoring.endpoint import Monitoring


@contextmanager
def monitored(
    settings: Settings, database: Database, broker: MemoryBroker | QuorumBroker
) -> Iterator["Monitoring | None"]:
    """Answer at KIKET_METRICS_ADDRESS during the block; None where it is not set. Raises `InvalidSetting`."""
    if settings.metrics_address is None:
        yield None
        return
    # Nobody else waits for its libraries.
    from kiket_worker.monitoring.endpoint import Monitoring  # noqa: PLC0415

    with Monitoring(settings.metrics_address, database, broker) as monitoring:
        yield monitoring
