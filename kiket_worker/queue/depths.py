"""How many messages wait in each queue, for whoever has no broker open."""

from kiket_worker.queue.broker import QuorumBroker
from kiket_worker.settings import Settings

_PATIENCE_SECONDS = 2.0


def queue_depths(settings: Settings) -> dict[str, int]:
    """Messages by queue; none where the queues are in another process's memory. Raises `RabbitmqUnreachable`."""
    if settings.in_one_process:
        return {}
    return QuorumBroker(settings.rabbitmq_url.get_secret_value()).depths(timeout_seconds=_PATIENCE_SECONDS)
