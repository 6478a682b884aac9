"""The message of a run that the ledger holds: it asks for nothing new and only wakes a worker."""

from kiket_worker.contract import QUEUE_REQUESTS, QUEUE_SCHEDULED, Reason, RefreshMessage
from kiket_worker.ledger.outbox import Waiting
from kiket_worker.queue.broker import Broker


def publish_run(broker: Broker, run: Waiting) -> None:
    """Publish a run's message; the schedule has a queue of its own. Raises `RabbitmqUnreachable`."""
    message = RefreshMessage(version=1, organization=run.organization_slug, reason=run.reason, kiket_run_id=run.run_id)
    broker.publish(message, QUEUE_SCHEDULED if run.reason is Reason.SCHEDULED else QUEUE_REQUESTS)
