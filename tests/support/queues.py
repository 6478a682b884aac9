"""One way to look at both brokers: what tests send, what waits, and what was buried."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel

from kiket_worker.contract import QUEUE_DEAD, QUEUE_REQUESTS, QUEUE_SCHEDULED, RefreshMessage
from kiket_worker.queue.broker import HEADER_REASON, DeadLetter, MemoryBroker, QuorumBroker, open_broker
from kiket_worker.queue.consumers import Consumers
from kiket_worker.settings import Settings

MEMORY_URL = "memory://"


def settings_for(rabbitmq_url: str) -> Settings:
    return Settings(DATABASE_URL="postgresql://nobody", RABBITMQ_URL=rabbitmq_url, ARTIFACTS_URL=Path("/").as_uri())


@contextmanager
def channel_to(url: str) -> Iterator[BlockingChannel]:
    """A plain AMQP client: it knows neither Dramatiq nor this product."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield connection.channel()
    finally:
        connection.close()


class Queues:
    """The queues of one broker."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.in_memory = url == MEMORY_URL
        self.broker: MemoryBroker | QuorumBroker = open_broker(settings_for(url))

    def send(self, body: bytes, queue_name: str = QUEUE_REQUESTS) -> None:
        """Put a body into a queue past the product, as a foreign publisher does."""
        if isinstance(self.broker, MemoryBroker):
            self.broker.queues[queue_name].put(body)
        else:
            with channel_to(self.url) as channel:
                channel.basic_publish("", queue_name, body)

    def buried(self) -> list[DeadLetter]:
        """Take the dead letters out."""
        if isinstance(self.broker, MemoryBroker):
            letters = list(self.broker.buried)
            self.broker.buried.clear()
            return letters
        return [
            DeadLetter(body, (properties.headers or {}).get(HEADER_REASON, ""))
            for body, properties in taken(self.url, QUEUE_DEAD)
        ]

    def unsettled(self) -> int:
        """Messages that nobody has acknowledged; on RabbitMQ, ask when the consumers have stopped."""
        names = (QUEUE_REQUESTS, QUEUE_SCHEDULED)
        if isinstance(self.broker, MemoryBroker):
            return sum(int(self.broker.queues[name].unfinished_tasks) for name in names)
        return sum(ready(self.url, name) for name in names)

    @contextmanager
    def consumed_by(self, handle: Callable[[RefreshMessage], None], concurrency: int = 2) -> Iterator[Consumers]:
        consumers = Consumers(self.broker, handle, concurrency=concurrency)
        consumers.start()
        try:
            yield consumers
        finally:
            consumers.stop()


def ready(url: str, queue_name: str) -> int:
    with channel_to(url) as channel:
        return int(channel.queue_declare(queue_name, passive=True).method.message_count)


def taken(url: str, queue_name: str) -> list[tuple[bytes, Any]]:
    """Every message of a queue, acknowledged."""
    messages = []
    with channel_to(url) as channel:
        while True:
            method, properties, body = channel.basic_get(queue_name, auto_ack=True)
            if method is None:
                return messages
            messages.append((body, properties))


def delete_queues(url: str) -> None:
    with channel_to(url) as channel:
        for queue_name in (QUEUE_REQUESTS, QUEUE_SCHEDULED, QUEUE_DEAD):
            channel.queue_delete(queue_name)
