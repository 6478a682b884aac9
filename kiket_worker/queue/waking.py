"""Waking a worker after a request: whoever asks for runs publishes what the ledger has taken."""

from collections.abc import Sequence

from kiket_worker.errors import QueueMismatch, RabbitmqUnreachable
from kiket_worker.ledger import outbox
from kiket_worker.ledger.database import Database
from kiket_worker.queue.broker import open_broker
from kiket_worker.queue.publisher import publish_run
from kiket_worker.settings import Settings


def wake(settings: Settings, database: Database, organization_id: int) -> None:
    """Publish the run that waits for an organisation.

    Raises `RabbitmqUnreachable` and `QueueMismatch`; the run waits all the same.
    """
    wake_all(settings, database, [organization_id])


def wake_all(settings: Settings, database: Database, organization_ids: Sequence[int]) -> None:
    """The same for several organisations."""
    try:
        broker = open_broker(settings)
        for organization_id in organization_ids:
            outbox.publish_of(database, lambda run: publish_run(broker, run), organization_id)
        broker.close()
    except (RabbitmqUnreachable, QueueMismatch) as fault:
        runs = "the run is" if len(organization_ids) == 1 else "the runs are"
        raise type(fault)(f"{fault}; {runs} in the ledger, and the ticker publishes what waits later") from fault
