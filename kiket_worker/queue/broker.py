"""The brokers: RabbitMQ between processes, memory within one. Both carry bodies of the contract, nothing else."""

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
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
_BLOCKED_SECONDS = 30
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
        except ValueError:
            # The parser's own words may be a part of the password.
            raise InvalidSetting(
                "RABBITMQ_URL is not a connection URL: its port or an option cannot be read; "
                "characters such as / and : in a password have to be percent-encoded"
            ) from None
    for queue_name in (QUEUE_REQUESTS, QUEUE_SCHEDULED):
        broker.declare_queue(queue_name)
    broker.check()
    return broker


class MemoryBroker(StubBroker):
    """Queues in this process's memory: the ledger alone remembers what they held."""

    def __init__(self) -> None:
        super().__init__(middleware=[])
        self.buried: list[DeadLetter] = []
        self._given_back: Counter[bytes] = Counter()

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
        return _LabellingConsumer(super().consume(queue_name, prefetch, timeout), queue_name, self._give_back)

    def _give_back(self, consumer: Any, message: dramatiq.MessageProxy) -> None:
        body = message.encode()
        self._given_back[body] += 1
        if self._given_back[body] > DELIVERY_LIMIT:
            del self._given_back[body]
            self.bury(DeadLetter(body, "delivery_limit"))
        else:
            consumer.queue.put(body)
        consumer.ack(message)


class QuorumBroker(RabbitmqBroker):
    """RabbitMQ with durable quorum queues, publisher confirms and one queue of dead letters.

    Dramatiq's delay queues are not declared: retries belong to the ledger.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url=url, confirm_delivery=True, middleware=[])
        # RabbitMQ stops reading while it is short of memory or disk; without a limit a publisher would wait for ever.
        self.parameters.blocked_connection_timeout = _BLOCKED_SECONDS  # type: ignore[attr-defined]  # one URL, no list

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

        def publish() -> None:
            self._declare_xq_queue(QUEUE_DEAD)
            self.channel.basic_publish("", QUEUE_DEAD, letter.body, properties, mandatory=True)

        try:
            publish()
        except (pika.exceptions.AMQPError, OSError):
            # RabbitMQ closes a connection that was idle for long.
            del self.connection
            self._reach(publish)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> dramatiq.Consumer:
        """See `dramatiq.Broker.consume`."""
        return _LabellingConsumer(super().consume(queue_name, prefetch, timeout), queue_name, _give_back)

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
            reason = fault.args[0] if isinstance(fault, BrokerConnectionError) else fault
            raise RabbitmqUnreachable(f"RabbitMQ at RABBITMQ_URL cannot be reached: {reason!r}") from fault


class _LabellingConsumer(dramatiq.Consumer):
    """A consumer that writes its queue's name on each message, and gives back what could not be handled.

    Dramatiq finds the consumer that has to acknowledge a message by that name. A message whose handling raised was
    not handled: it is not acknowledged but goes back to its queue.
    """

    def __init__(self, consumer: Any, queue_name: str, give_back: Callable[[Any, dramatiq.MessageProxy], None]) -> None:
        self._consumer = consumer
        self._queue_name = queue_name
        self._give_back = give_back
        self._unsettled: set[str] = set()

    def __next__(self) -> dramatiq.MessageProxy | None:
        proxy: dramatiq.MessageProxy | None = next(self._consumer)
        if proxy is not None:
            proxy._message = proxy._message.copy(queue_name=self._queue_name)
            self._unsettled.add(proxy.message_id)
        return proxy

    def ack(self, message: dramatiq.MessageProxy) -> None:
        """Acknowledge a message that was handled; requeue one that was not."""
        if not self._settles(message):
            return
        if message._exception is None:
            self._consumer.ack(message)
        else:
            self._give_back(self._consumer, message)

    def nack(self, message: dramatiq.MessageProxy) -> None:
        """Refuse a message."""
        if self._settles(message):
            self._consumer.nack(message)

    def requeue(self, messages: Iterable[dramatiq.MessageProxy]) -> None:
        """Give back messages that nobody began."""
        self._consumer.requeue(messages)

    def close(self) -> None:
        """Close the connection, if there is one."""
        self._consumer.close()

    def _settles(self, message: dramatiq.MessageProxy) -> bool:
        """Whether it was this consumer that got the message.

        One of an earlier connection is back in its queue already, and its tag now belongs to another message.
        """
        if message.message_id not in self._unsettled:
            return False
        self._unsettled.remove(message.message_id)
        return True


def _give_back(consumer: Any, message: dramatiq.MessageProxy) -> None:
    consumer.known_tags.discard(message._tag)
    # With the connection gone, RabbitMQ has given the message back already.
    with suppress(pika.exceptions.ConnectionWrongStateError):
        consumer.connection.add_callback_threadsafe(partial(consumer.channel.basic_nack, message._tag, requeue=True))


def _envelope(body: bytes, queue_name: str) -> dramatiq.Message[None]:
    return dramatiq.Message(queue_name=queue_name, actor_name=ACTOR_NAME, args=(), kwargs={"body": body}, options={})
