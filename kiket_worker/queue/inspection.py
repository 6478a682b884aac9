"""A look at RabbitMQ that changes nothing: which release it is, and whether its queues are those that are declared."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pika
import pika.exceptions

from kiket_worker.contract import QUEUE_DEAD
from kiket_worker.errors import InvalidSetting, RabbitmqUnreachable
from kiket_worker.queue.broker import CONSUMED, arguments_of
from kiket_worker.queue.faults import CONNECTION_FAULTS

_ACCESS_REFUSED, _NOT_FOUND = 403, 404  # AMQP's reply codes.
_TIMEOUT_SECONDS = 5


@dataclass(frozen=True)
class Queues:
    """What RabbitMQ says. `refused` has its words for each queue that cannot be declared as it has to be.

    `forbidden` are those of them that the login may not configure, read or write; a queue that is not there is neither.
    """

    version: str
    refused: Mapping[str, str] = field(default_factory=dict)
    forbidden: frozenset[str] = frozenset()


def inspect(rabbitmq_url: str) -> Queues:
    """Look once. Raises `RabbitmqUnreachable`, and `InvalidSetting` for a URL that cannot be read."""
    try:
        parameters: Any = pika.URLParameters(rabbitmq_url)
    except ValueError:
        raise InvalidSetting("RABBITMQ_URL is not a connection URL: its port or an option cannot be read") from None
    parameters.socket_timeout = parameters.stack_timeout = parameters.blocked_connection_timeout = _TIMEOUT_SECONDS
    refused, forbidden = {}, set()
    try:
        with pika.BlockingConnection(parameters) as connection:
            known: Mapping[str, Any] = connection._impl.server_properties or {}  # pika shows it nowhere else
            for name in (*CONSUMED, QUEUE_DEAD):
                try:
                    _declare_if_there(connection, name)
                except pika.exceptions.ChannelClosedByBroker as fault:
                    if fault.reply_code != _NOT_FOUND:
                        refused[name] = str(fault.reply_text)
                    if fault.reply_code == _ACCESS_REFUSED:
                        forbidden.add(name)
    except CONNECTION_FAULTS as fault:
        raise RabbitmqUnreachable(f"RabbitMQ at RABBITMQ_URL cannot be reached: {fault!r}") from fault
    return Queues(_text(known.get("version")), refused, frozenset(forbidden))


def _declare_if_there(connection: Any, name: str) -> None:
    connection.channel().queue_declare(name, passive=True)
    connection.channel().queue_declare(name, durable=True, arguments=arguments_of(name))


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
