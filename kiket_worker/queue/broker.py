"""The brokers: RabbitMQ between processes, memory within one. Both carry bodies of the contract, nothing else."""

import time
from collections import Counter
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import partial
from queue import Queue
from threading import Event, Semaphore
from typing import Any, Protocol
from uuid import uuid4

import dramatiq
import pika
import pika.exceptions
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.errors import BrokerConnectionError

from kiket_worker.contract import QUEUE_DEAD, QUEUE_REQUESTS, QUEUE_SCHEDULED, RefreshMessage
from kiket_worker.errors import InvalidSetting, QueueMismatch, RabbitmqUnreachable
from kiket_worker.queue.encoder import ACTOR_NAME, BodyEncoder
from kiket_worker.queue.faults import CONNECTION_FAULTS
from kiket_worker.queue.headers import tolerate_headers
from kiket_worker.queue.pulling import MemoryConsumer, RabbitmqConsumer
from kiket_worker.settings import Settings

DELIVERY_LIMIT = 20  # Redeliveries of one message before RabbitMQ itself puts it among the dead letters.
# Requests never stand behind the schedule.
CONSUMED = (QUEUE_REQUESTS, QUEUE_SCHEDULED)
_BLOCKED_SECONDS = 30
_HANDSHAKE_SECONDS = 5
_PRECONDITION_FAILED = 406  # AMQP's reply code for a declaration that differs from what exists.
_NOT_FOUND = 404
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

    def depths(self, *, timeout_seconds: float) -> dict[str, int]:
        """How many messages wait in each queue, dead letters too. Raises `RabbitmqUnreachable`."""
        ...

    slots: Semaphore | None
    """One for each message that may be in hand at a time, kept by its consumer; None: as many as are prefetched."""

    @property
    def halted(self) -> Event:
        """Set once no more messages are to be fetched."""
        ...

    def close(self) -> None:
        """Close every connection."""
        ...


def open_broker(settings: Settings) -> "MemoryBroker | QuorumBroker":
    """The broker of `RABBITMQ_URL`, with the queues declared. Raises `RabbitmqUnreachable` and `InvalidSetting`."""
    dramatiq.set_encoder(BodyEncoder())
    tolerate_headers()
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
    for queue_name in CONSUMED:
        broker.declare_queue(queue_name)
    broker.check()
    return broker


def arguments_of(queue_name: str) -> dict[str, Any]:
    """With which arguments a queue is declared: RabbitMQ has it with these, or refuses."""
    if queue_name == QUEUE_DEAD:
        # Whoever looks at dead letters takes them and gives them back. RabbitMQ 4 would drop them after 20 looks.
        return {"x-queue-type": "quorum", "x-delivery-limit": 2**31 - 1}
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": QUEUE_DEAD,
    }


class MemoryBroker(StubBroker):
    """Queues in this process's memory: the ledger alone remembers what they held."""

    def __init__(self) -> None:
        super().__init__(middleware=[])
        self.halted = Event()
        self.slots: Semaphore | None = None
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

    def depths(self, *, timeout_seconds: float) -> dict[str, int]:
        """See `Broker.depths`."""
        return {name: self.queues[name].qsize() for name in CONSUMED} | {QUEUE_DEAD: len(self.buried)}

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 100) -> dramatiq.Consumer:
        """A consumer of both queues, whichever is asked for: requests go first. See `dramatiq.Broker.consume`."""
        queues = [self.queues[name] for name in CONSUMED]
        return MemoryConsumer(queues, self.slots or Semaphore(prefetch), self.halted, self._give_back)

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue without Dramatiq's delay queue beside it."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = Queue()
            self.emit_after("declare_queue", queue_name)

    def _give_back(self, queue: "Queue[bytes]", body: bytes) -> None:
        self._given_back[body] += 1
        if self._given_back[body] > DELIVERY_LIMIT:
            del self._given_back[body]
            self.bury(DeadLetter(body, "delivery_limit"))
        else:
            queue.put(body)


class QuorumBroker(RabbitmqBroker):
    """RabbitMQ with durable quorum queues, publisher confirms and one queue of dead letters.

    Dramatiq's delay queues are not declared: retries belong to the ledger.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url=url, confirm_delivery=True, middleware=[])
        self.halted = Event()
        self.slots: Semaphore | None = None
        # RabbitMQ stops reading while it is short of memory or disk; without a limit a publisher would wait for ever.
        parameters: Any = self.parameters
        parameters.blocked_connection_timeout = _BLOCKED_SECONDS
        # Something that listens and does not speak AMQP is known as such sooner than by pika's 15 seconds.
        parameters.stack_timeout = _HANDSHAKE_SECONDS

    def check(self) -> None:
        """Declare every queue now. Raises `RabbitmqUnreachable`."""
        for name in self.get_declared_queues():
            self._reach(partial(self.declare_queue, name, ensure=True))
        # Nothing answers its heartbeats while this thread waits; the next call makes a new one.
        del self.connection

    def publish(self, message: RefreshMessage, queue_name: str) -> None:
        """See `Broker.publish`."""
        self._reach(lambda: self.enqueue(_envelope(message.to_bytes(), queue_name)))

    def bury(self, letter: DeadLetter) -> None:
        """See `Broker.bury`."""
        properties = pika.BasicProperties(
            delivery_mode=pika.DeliveryMode.Persistent.value,
            message_id=str(uuid4()),
            timestamp=int(time.time()),
            headers={HEADER_REASON: letter.reason},
        )

        def publish() -> None:
            self._declare_xq_queue(QUEUE_DEAD)
            self.channel.basic_publish("", QUEUE_DEAD, letter.body, properties, mandatory=True)

        try:
            publish()
        except CONNECTION_FAULTS:
            # RabbitMQ closes a connection that was idle for long.
            del self.connection
            self._reach(publish)

    def depths(self, *, timeout_seconds: float) -> dict[str, int]:
        """See `Broker.depths`. On a connection of its own, that gives up when RabbitMQ is silent."""
        hasty: Any = copy(self.parameters)
        hasty.socket_timeout = hasty.stack_timeout = timeout_seconds
        hasty.heartbeat = max(1, round(timeout_seconds))
        try:
            with pika.BlockingConnection(hasty) as connection:
                return {name: _depth(connection, name) for name in (*CONSUMED, QUEUE_DEAD)}
        except CONNECTION_FAULTS as fault:
            raise RabbitmqUnreachable(f"RabbitMQ at RABBITMQ_URL cannot be reached: {fault!r}") from fault

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> dramatiq.Consumer:
        """A consumer of both queues, whichever is asked for: requests go first. See `dramatiq.Broker.consume`."""
        try:
            for name in CONSUMED:
                # Declared at each start, as RabbitMQ may have lost the queue with all that it held.
                self.queues_pending.add(name)
                self.declare_queue(name, ensure=True)
        finally:
            del self.connection  # Only for declaring: nothing in this thread would answer its heartbeats.
        return RabbitmqConsumer(self.parameters, CONSUMED, self.slots or Semaphore(prefetch), self.halted)

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
        return arguments_of(queue_name)

    def _declare_dq_queue(self, queue_name: str) -> None:
        """No delay queues."""

    def _declare_xq_queue(self, queue_name: str) -> None:
        self.channel.queue_declare(QUEUE_DEAD, durable=True, arguments=arguments_of(QUEUE_DEAD))

    def _reach(self, action: Callable[[], object]) -> None:
        try:
            action()
        except (BrokerConnectionError, *CONNECTION_FAULTS) as fault:
            # The thread's connection may be the reason: the next call begins with a new one.
            del self.connection
            reason = fault.args[0] if isinstance(fault, BrokerConnectionError) else fault
            if isinstance(reason, pika.exceptions.ChannelClosedByBroker) and reason.reply_code == _PRECONDITION_FAILED:
                raise QueueMismatch(
                    "RabbitMQ has a queue with other arguments than this release declares: "
                    f"{reason.reply_text}; finish its messages and delete the queue, it is declared anew"
                ) from fault
            raise RabbitmqUnreachable(f"RabbitMQ at RABBITMQ_URL cannot be reached: {reason!r}") from fault


def _depth(connection: Any, name: str) -> int:
    try:
        return int(connection.channel().queue_declare(name, passive=True).method.message_count)
    except pika.exceptions.ChannelClosedByBroker as fault:
        if fault.reply_code != _NOT_FOUND:
            raise
        return 0  # Nothing was ever put there, or RabbitMQ has lost it.


def _envelope(body: bytes, queue_name: str) -> dramatiq.Message[None]:
    return dramatiq.Message(queue_name=queue_name, actor_name=ACTOR_NAME, args=(), kwargs={"body": body}, options={})
