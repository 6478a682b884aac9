"""The receiving end: Dramatiq's threads take bodies off the queues and hand the messages to the product."""

from collections.abc import Callable
from threading import Semaphore

import dramatiq

from kiket_worker import events
from kiket_worker.contract import QUEUE_REQUESTS, InvalidMessage, RefreshMessage, known_traceparent
from kiket_worker.errors import KiketError, UnknownOrganization, WorkerStopped, place_of
from kiket_worker.queue.broker import DeadLetter, MemoryBroker, QuorumBroker
from kiket_worker.queue.encoder import ACTOR_NAME

Handler = Callable[[RefreshMessage], None]

_PAUSE_SECONDS = 0.2
# Longer than any refresh takes: by its own default, Dramatiq leaves what goes on after ten minutes.
_STOP_MILLISECONDS = 31 * 24 * 3600 * 1000


class Consumers:
    """A running set of consumer and worker threads; at most one in a process (Dramatiq's own limit)."""

    def __init__(self, broker: MemoryBroker | QuorumBroker, handle: Handler, *, concurrency: int) -> None:
        """`handle` is called in one of `concurrency` threads; what it raises puts the message back."""
        self._broker = broker
        self._handle = handle
        dramatiq.actor(actor_name=ACTOR_NAME, queue_name=QUEUE_REQUESTS, broker=broker)(self._receive)
        # One queue, because its consumer takes from the schedule's as well.
        self._worker = dramatiq.Worker(broker, queues={QUEUE_REQUESTS}, worker_threads=concurrency, worker_timeout=200)
        # Messages being handled count as fetched, so this is the least that keeps every thread at work. Dramatiq's own
        # figure is twice as high, and what is fetched here waits here while another worker idles.
        self._worker.queue_prefetch = concurrency
        # Kept from one connection to the next, as the threads are.
        broker.slots = Semaphore(concurrency)

    def start(self) -> None:
        """Begin to take messages."""
        self._worker.start()

    def stop(self) -> None:
        """Take no more messages, wait for those being handled, and close."""
        self._broker.halted.set()
        self._worker.stop(timeout=_STOP_MILLISECONDS)

    def lives(self) -> bool:
        """Whether every thread is there that takes messages or handles them; true as well while they are to end."""
        threads = [*self._worker.consumers.values(), *self._worker.workers]
        return self._broker.halted.is_set() or all(thread.is_alive() for thread in threads)

    def _receive(self, body: bytes, traceparent: object = None) -> None:
        try:
            message = RefreshMessage.from_bytes(body)
            if message.caller is None and (caller := known_traceparent(traceparent)):
                message = message.model_copy(update={"traceparent": caller})
            self._handle(message)
        except InvalidMessage as fault:
            self._reject(body, "message_invalid", str(fault))
        except UnknownOrganization as fault:
            self._reject(body, fault.kind, str(fault))
        except WorkerStopped:
            raise  # Nothing failed: another worker takes the message.
        except Exception as fault:
            kind, text = (fault.kind, str(fault)) if isinstance(fault, KiketError) else ("internal", place_of(fault))
            events.WORKER_FAILED.log(error_kind=kind, error=text)
            # What is not understood comes back at once; this way it takes its deliveries in seconds, not milliseconds.
            self._broker.halted.wait(_PAUSE_SECONDS)
            raise

    def _reject(self, body: bytes, kind: str, reason: str) -> None:
        self._broker.bury(DeadLetter(body, f"{kind}: {reason}"))
        events.REFRESH_REJECTED.log(error_kind=kind, error=reason)
