"""The brokers: RabbitMQ between processes, memory within one. Both carry bodies of the contract, nothing else."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import dramatiq
import pika
import pika.exceptions
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.errors import BrokerConnectionError

from kiket_worker.contract import QUEUE_DEAD, QUEUE_REQUESTS, QUEUE_SCHEDULED, RefreshMessage
from kiket_worker.errors import InvalidSetting, RabbitmqUnreachable
from kiket_worker.queue.encoder import ACTOR_NAME, BodyEncoder
from kiket_worker.settings import Settings

DELIVERY_LIMIT = 20  # Redeliveries of one message before RabbitMQ itself puts it among the dead letters.
HEADER_REASON = "x-kiket-reason"


@dataclass(frozen=True)
class DeadLetter:
    """A message that was refused, and why."""

    body: bytes
    reason: str


class Broker(Protocol):
    """What the product needs of a broker beside Dramatiq's own interface."""

    def publish(self, message: RefreshMessage, queue_name: str) -> None:
        """Hand a message to the queue; it is stored when this returns. Raises `RabbitmqUnreachable`."""
        ...

    def bury(self, letter: DeadLetter) -> None:
        """Put a refused message among the dead letters. Raises `RabbitmqUnreachable`."""
        ...

    def close(self) -> None:
        """Close every connection."""
        ...


def open_broker(settings: Settings) -> "MemoryBroker | QuorumBroker":
    """The broker of `RABBITMQ_URL`, with the queues declared. Raises `RabbitmqUnreachable` and `InvalidSetting`."""
    dramatiq.set_encoder(BodyEncoder())
    broker: MemoryBroker | QuorumBroker
    if settings.in_one_process:
        broker = MemoryBroker()
    else:
        try:
            broker = QuorumBroker(url=settings.rabbitmq_url.get_secret_value())
        except ValueError as fault:
            raise InvalidSetting(f"RABBITMQ_URL is not a connection URL: {fault}") from None
    for queue_name in (QUEUE_REQUESTS, QUEUE_SCHEDULED):
        broker.declare_queue(queue_name)
    broker.check()
    return broker


class MemoryBroker(StubBroker):
    """Queues in this process's memory: the ledger alone remembers what they held."""

    def __init__(self) -> None:
        super().__init__(middleware=[])
        self.buried: list[DeadLetter] = []

    def check(self) -> None:
        """Nothing can be out of reach."""

    def publish(self, message: RefreshMessage, queue_name: str) -> None:
        """See `Broker.publish`."""
        self.enqueue(_envelope(message.to_bytes(), queue_name))

    def bury(self, letter: DeadLetter) -> None:
        """See `Broker.bury`."""
        self.buried.append(letter)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 100) -> dramatiq.Consumer:
        """See `dramatiq.Broker.consume`."""
        return _LabellingConsumer(super().consume(queue_name, prefetch, timeout), queue_name)


class QuorumBroker(RabbitmqBroker):
    """RabbitMQ with durable quorum queues, publisher confirms and one queue of dead letters.

    Dramatiq's delay queues are not declared: retries belong to the ledger.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url=url, confirm_delivery=True, middleware=[])

    def check(self) -> None:
        """Declare every queue now. Raises `RabbitmqUnreachable`."""
        for name in self.get_declared_queues():
            self._reach(partial(self.declare_queue, name, ensure=True))

    def publish(self, message: RefreshMessage, queue_name: str) -> None:
        """See `Broker.publish`."""
        self._reach(lambda: self.enqueue(_envelope(message.to_bytes(), queue_name)))

    def bury(self, letter: DeadLetter) -> None:
        """See `Broker.bury`."""
        properties = pika.BasicProperties(
            delivery_mode=pika.DeliveryMode.Persistent.value, headers={HEADER_REASON: letter.reason}
        )
        self._reach(lambda: self.channel.basic_publish("", QUEUE_DEAD, letter.body, properties, mandatory=True))

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> dramatiq.Consumer:
        """See `dramatiq.Broker.consume`."""
        return _LabellingConsumer(super().consume(queue_name, prefetch, timeout), queue_name)

    def declare_queue(self, queue_name: str, *, ensure: bool = False) -> None:
        """Declare a queue without Dramatiq's delay queue beside it."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.queues_pending.add(queue_name)
            self.emit_after("declare_queue", queue_name)
        if ensure:
            self._ensure_queue(queue_name)  # type: ignore[no-untyped-call]  # Dramatiq's private code has no types

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        return {
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": QUEUE_DEAD,
        }

    def _declare_dq_queue(self, queue_name: str) -> None:
        """No delay queues."""

    def _declare_xq_queue(self, queue_name: str) -> None:
        self.channel.queue_declare(QUEUE_DEAD, durable=True, arguments={"x-queue-type": "quorum"})

    def _reach(self, action: Callable[[], object]) -> None:
        try:
            action()
        except (BrokerConnectionError, pika.exceptions.AMQPError, OSError) as fault:
            # The thread's connection may be the reason: the next call begins with a new one.
            del self.connection
            reason = fault.args[0] if fault.args else fault
            raise RabbitmqUnreachable(f"RabbitMQ at RABBITMQ_URL cannot be reached: {reason!r}") from fault


class _LabellingConsumer(dramatiq.Consumer):
    """A consumer that writes its queue's name on each message, and gives back what could not be handled.

    Dramatiq finds the consumer that has to acknowledge a message by that name. A message whose handling raised was
    not handled: it is not acknowledged but goes back to its queue.
    """

    def __init__(self, consumer: Any, queue_name: str) -> None:
        self._consumer = consumer
        self._queue_name = queue_name

    def __next__(self) -> dramatiq.MessageProxy | None:
        proxy: dramatiq.MessageProxy | None = next(self._consumer)
        if proxy is not None:
            proxy._message = proxy._message.copy(queue_name=self._queue_name)
        return proxy

    def ack(self, message: dramatiq.MessageProxy) -> None:
        """Acknowledge a message that was handled; requeue one that was not."""
        if message._exception is None:
            self._consumer.ack(message)
        elif hasattr(self._consumer, "connection"):
            self._consumer.known_tags.discard(message._tag)
            requeue = partial(self._consumer.channel.basic_nack, message._tag, requeue=True)
            self._consumer.connection.add_callback_threadsafe(requeue)
        else:
            self._consumer.nack(message)

    def nack(self, message: dramatiq.MessageProxy) -> None:
        """Refuse a message."""
        self._consumer.nack(message)

    def requeue(self, messages: Iterable[dramatiq.MessageProxy]) -> None:
        """Give back messages that nobody began."""
        self._consumer.requeue(messages)

    def close(self) -> None:
        """Close the connection, if there is one."""
        self._consumer.close()


def _envelope(body: bytes, queue_name: str) -> dramatiq.Message[None]:
    return dramatiq.Message(queue_name=queue_name, actor_name=ACTOR_NAME, args=(), kwargs={"body": body}, options={})
