"""The receiving end: Dramatiq's threads take bodies off the queues and hand the messages to the product."""

from collections.abc import Callable

import dramatiq

from kiket_worker import events
from kiket_worker.contract import QUEUE_REQUESTS, InvalidMessage, RefreshMessage
from kiket_worker.errors import UnknownOrganization
from kiket_worker.queue.broker import DeadLetter, MemoryBroker, QuorumBroker
from kiket_worker.queue.encoder import ACTOR_NAME

Handler = Callable[[RefreshMessage], None]

# One message a queue is fetched ahead of the threads that work: more would wait here while another worker idles.
_PREFETCH = 1


class Consumers:
    """A running set of consumer and worker threads; at most one in a process (Dramatiq's own limit)."""

    def __init__(self, broker: MemoryBroker | QuorumBroker, handle: Handler, *, concurrency: int) -> None:
        """`handle` is called in one of `concurrency` threads; what it raises puts the message back."""
        self._broker = broker
        self._handle = handle
        dramatiq.actor(actor_name=ACTOR_NAME, queue_name=QUEUE_REQUESTS, broker=broker)(self._receive)
        self._worker = dramatiq.Worker(broker, worker_threads=concurrency, worker_timeout=200)
        self._worker.queue_prefetch = _PREFETCH

    def start(self) -> None:
        """Begin to take messages."""
        self._worker.start()

    def stop(self) -> None:
        """Take no more messages, wait for those being handled, and close."""
        self._worker.stop()

    def _receive(self, body: bytes) -> None:
        try:
            self._handle(RefreshMessage.from_bytes(body))
        except InvalidMessage as fault:
            self._reject(body, "message_invalid", str(fault))
        except UnknownOrganization as fault:
            self._reject(body, fault.kind, str(fault))

    def _reject(self, body: bytes, kind: str, reason: str) -> None:
        self._broker.bury(DeadLetter(body, f"{kind}: {reason}"))
        events.REFRESH_REJECTED.log(error_kind=kind, error=reason)
