"""Consumers that fetch one message for each free thread, requests first.

RabbitMQ's push would hand over the next messages while this worker's threads are busy, and other workers idle; and it
knows no priority between two queues. So each consumer asks for a message only when one of its slots is free, and asks
the queue of the schedule only when no request waits. A slot is free again once its message is settled. A consumer that
follows another, because the connection was lost, goes on with its slots: the threads still have what it fetched.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, Queue
from threading import Event, Semaphore
from typing import Any

import dramatiq
import pika
from dramatiq.errors import ConnectionClosed

from kiket_worker.queue.faults import CONNECTION_FAULTS

# As W3C Trace Context names it, and the instrumentation of AMQP clients sends it.
HEADER_TRACEPARENT = "traceparent"
# How long a message may wait for a thread that is free, and how often RabbitMQ is asked by a worker with nothing to do.
POLL_SECONDS = 0.05
# A connection whose slots are all taken has to answer RabbitMQ's heartbeats all the same.
_HEARTBEAT_SECONDS = 0.2


class _Pulling(dramatiq.Consumer):
    """What both consumers share: slots, and settling each message once. Fetches nothing once `halted` is set."""

    def __init__(self, slots: Semaphore, halted: Event) -> None:
        self._slots = slots
        self._halted = halted
        self._unsettled: dict[str, Any] = {}

    def __next__(self) -> dramatiq.MessageProxy | None:
        if self._halted.is_set() or not self._slots.acquire(timeout=_HEARTBEAT_SECONDS):
            self._idle(POLL_SECONDS)
            return None
        try:
            proxy = self._fetch()
        except BaseException:
            self._slots.release()
            raise
        if proxy is None:
            self._slots.release()
        elif self._halted.is_set():
            # Fetched while the worker began to end: its threads may be gone, and those in hand take their time.
            self.requeue([proxy])
            proxy = None
        if proxy is None:
            self._idle(POLL_SECONDS)
        return proxy

    def ack(self, message: dramatiq.MessageProxy) -> None:
        """Acknowledge a message that was handled, and give back one whose handling raised."""
        self._settle(message, give_back=message._exception is not None)

    def nack(self, message: dramatiq.MessageProxy) -> None:
        """Give back a message that Dramatiq refuses."""
        self._settle(message, give_back=True)

    def requeue(self, messages: Iterable[dramatiq.MessageProxy]) -> None:
        """Give back messages that nobody began."""
        for message in messages:
            self._settle(message, give_back=True)

    def close(self) -> None:
        """Nothing to close."""

    def _wrap(self, body: bytes, handle: Any, headers: Mapping[str, Any] | None = None) -> dramatiq.MessageProxy:
        message = dramatiq.Message.decode(body)
        if headers and (traceparent := headers.get(HEADER_TRACEPARENT)):
            message = message.copy(kwargs=message.kwargs | {"traceparent": traceparent})
        proxy = dramatiq.MessageProxy(message)
        self._unsettled[proxy.message_id] = handle
        return proxy

    def _settle(self, message: dramatiq.MessageProxy, *, give_back: bool) -> None:
        # A message of an earlier connection is not among these: it is back in its queue already, and its delivery tag
        # belongs to another message by now. Its thread is free again all the same.
        if message.message_id in self._unsettled:
            self._answer(self._unsettled.pop(message.message_id), give_back=give_back)
        self._slots.release()

    def _fetch(self) -> dramatiq.MessageProxy | None:
        """The next message, if one waits."""
        raise NotImplementedError

    def _answer(self, handle: Any, *, give_back: bool) -> None:
        """Settle a message with the queue."""
        raise NotImplementedError

    def _idle(self, seconds: float) -> None:
        """Pass the time in which nothing can be fetched."""
        raise NotImplementedError


class MemoryConsumer(_Pulling):
    """Takes bodies from queues in memory."""

    def __init__(
        self,
        queues: Sequence["Queue[bytes]"],
        slots: Semaphore,
        halted: Event,
        give_back: Callable[["Queue[bytes]", bytes], None],
    ) -> None:
        super().__init__(slots, halted)
        self._queues = queues
        self._give_back = give_back

    def _fetch(self) -> dramatiq.MessageProxy | None:
        for queue in self._queues:
            with suppress(Empty):
                body = queue.get_nowait()
                return self._wrap(body, (queue, body))
        return None

    def _answer(self, handle: tuple["Queue[bytes]", bytes], *, give_back: bool) -> None:
        queue, body = handle
        if give_back:
            self._give_back(queue, body)
        queue.task_done()

    def _idle(self, seconds: float) -> None:
        time.sleep(seconds)


class RabbitmqConsumer(_Pulling):
    """Takes messages from RabbitMQ over a connection of its own. Faults of it are Dramatiq's `ConnectionClosed`."""

    def __init__(self, parameters: Any, queue_names: Sequence[str], slots: Semaphore, halted: Event) -> None:
        super().__init__(slots, halted)
        self._queue_names = queue_names
        try:
            self._connection = pika.BlockingConnection(parameters)
            self._channel = self._connection.channel()
        except CONNECTION_FAULTS as fault:
            raise _closed(fault) from None

    def close(self) -> None:
        """Send the answers that are under way, and close."""
        with suppress(*CONNECTION_FAULTS, AssertionError):
            sent = Event()
            self._connection.add_callback_threadsafe(sent.set)
            while not sent.is_set():
                self._connection.process_data_events(0)
            self._connection.close()

    def _fetch(self) -> dramatiq.MessageProxy | None:
        try:
            for name in self._queue_names:
                method, properties, body = self._channel.basic_get(name)
                if method is not None:
                    return self._wrap(body, method.delivery_tag, properties.headers)
        except (*CONNECTION_FAULTS, AssertionError) as fault:
            raise _closed(fault) from None
        return None

    def _answer(self, handle: int, *, give_back: bool) -> None:
        answer = (
            partial(self._channel.basic_nack, handle, requeue=True)
            if give_back
            else partial(self._channel.basic_ack, handle)
        )
        # With the connection gone, RabbitMQ has given the message back already. Dramatiq's threads answer, and only
        # the consumer's own thread may use the connection.
        with suppress(*CONNECTION_FAULTS):
            self._connection.add_callback_threadsafe(answer)

    def _idle(self, seconds: float) -> None:
        try:
            self._connection.process_data_events(seconds)
        except (*CONNECTION_FAULTS, AssertionError) as fault:
            raise _closed(fault) from None


def _closed(fault: Exception) -> ConnectionClosed:
    return ConnectionClosed(fault)  # type: ignore[no-untyped-call]  # Dramatiq's errors have no types
