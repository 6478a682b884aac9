"""The dead letters as operators handle them: look at them, publish them again, remove them.

AMQP shows a queue's messages only to who takes them: a command takes them all, unacknowledged, and gives back what it
did not settle. Meanwhile they are in nobody else's view, so one command at a time has them in hand and another one
waits. Workers never wait: they only add. A command that dies gives everything back with its connection.
"""

import heapq
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import pika
import pika.exceptions
from pika.adapters.blocking_connection import BlockingConnection

from kiket_worker.contract import QUEUE_DEAD, QUEUE_REQUESTS
from kiket_worker.errors import (
    DeadLettersBusy,
    InvalidSetting,
    KiketError,
    RabbitmqUnreachable,
    UnknownDeadLetter,
    UsageError,
)
from kiket_worker.queue.broker import HEADER_REASON, open_broker
from kiket_worker.queue.faults import CONNECTION_FAULTS
from kiket_worker.queue.headers import tolerate_headers
from kiket_worker.settings import Settings

# A queue that only one connection can have, and that goes with it.
_LOCK = f"{QUEUE_DEAD}.lock"
_LOCK_SECONDS = 30
_RETURN_SECONDS = 10
_POLL_SECONDS = 0.02
_BLOCKED_SECONDS = 30

_NOT_FOUND, _RESOURCE_LOCKED = 404, 405  # AMQP's reply codes.
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class StoredLetter:
    """A message among the dead letters. `received_at` is None where neither a worker nor RabbitMQ has noted it."""

    letter_id: UUID
    reason: str
    received_at: datetime | None
    body: bytes


def list_newest(settings: Settings, limit: int) -> list[StoredLetter]:
    """The newest dead letters, newest first. Raises `RabbitmqUnreachable` and `DeadLettersBusy`."""
    with _in_hand(settings) as hand:
        newest = heapq.nlargest(limit, hand.each(), key=lambda held: (held.letter.received_at or _LONG_AGO, held.tag))
    return [held.letter for held in newest]


def list_ids(settings: Settings) -> list[UUID]:
    """The id of each dead letter. Raises as `list_newest` does."""
    with _in_hand(settings) as hand:
        return [held.letter.letter_id for held in hand.each()]


def replay(settings: Settings, chosen: Collection[UUID] | None) -> int:
    """Publish letters as requests again, and only then remove them: ending in between doubles one and loses none.

    `chosen` None means each letter that is there now. Returns how many were published; a letter that a worker refuses
    again comes back under a new id. Raises `UnknownDeadLetter` before anything is done, and as `list_newest` does.
    """
    _refuse_memory(settings)
    open_broker(settings).close()  # Declares the queue of requests, were it gone.
    properties = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent.value)
    with _in_hand(settings) as hand:
        publisher = hand.connection.channel()
        publisher.confirm_delivery()
        return hand.settle(
            chosen, lambda letter: publisher.basic_publish("", QUEUE_REQUESTS, letter.body, properties, mandatory=True)
        )


def drop(settings: Settings, chosen: Collection[UUID] | None) -> int:
    """Remove letters for good; `chosen`, result and errors as for `replay`."""
    with _in_hand(settings) as hand:
        return hand.settle(chosen, lambda _: None)


def read_letter(body: bytes, properties: pika.BasicProperties) -> StoredLetter:
    """What a message says of itself. One that RabbitMQ put here has a name that its content and its time give."""
    headers = properties.headers or {}
    reason = headers.get(HEADER_REASON)
    if isinstance(reason, str):
        received_at = _moment(properties.timestamp)
        letter_id = _own_id(properties.message_id) or _digest(body, received_at)
    else:
        reason, received_at = _death(headers)
        letter_id = _digest(body, received_at)
    return StoredLetter(letter_id, reason, received_at, body)


@dataclass(frozen=True)
class _Held:
    """A letter in hand. Its delivery tag rises along the queue."""

    tag: int
    letter: StoredLetter


class _Hand:
    """The letters that this command has taken and not settled yet."""

    def __init__(self, connection: BlockingConnection) -> None:
        self.connection = connection
        self._channel = connection.channel()
        self._unsettled = 0

    def each(self) -> Iterator[_Held]:
        """Take each letter that is there now, the oldest first.

        What arrives meanwhile is not among them: what is replayed and refused again would keep this going for ever.
        """
        for _ in range(self._waiting()):
            method, properties, body = self._channel.basic_get(QUEUE_DEAD)
            if method is None:
                return
            self._unsettled += 1
            yield _Held(method.delivery_tag, read_letter(body, properties))

    def settle(self, chosen: Collection[UUID] | None, act: Callable[[StoredLetter], object]) -> int:
        """Do something with each chosen letter and remove it; None chooses all."""
        settled = 0
        for held in self.each() if chosen is None else self._find(chosen):
            act(held.letter)
            self._channel.basic_ack(held.tag)
            self._unsettled -= 1
            settled += 1
        return settled

    def give_back(self) -> None:
        """Return what is not settled, and see it there: the next command counts what it finds."""
        if not self._unsettled:
            return
        expected = self._waiting() + self._unsettled
        self._channel.basic_nack(0, multiple=True, requeue=True)
        deadline = time.monotonic() + _RETURN_SECONDS
        while self._waiting() < expected and time.monotonic() < deadline:
            self.connection.sleep(_POLL_SECONDS)

    def _find(self, chosen: Collection[UUID]) -> list[_Held]:
        found = [held for held in self.each() if held.letter.letter_id in chosen]
        if missing := set(chosen) - {held.letter.letter_id for held in found}:
            raise UnknownDeadLetter(
                f"no dead letter has the id {', '.join(sorted(map(str, missing)))}; nothing was changed, and "
                "`kiket-worker dead-letters list` names those there are"
            )
        return found

    def _waiting(self) -> int:
        try:
            return int(self._channel.queue_declare(QUEUE_DEAD, passive=True).method.message_count)
        except pika.exceptions.ChannelClosedByBroker as fault:
            if fault.reply_code != _NOT_FOUND:
                raise
            return 0  # No queue, no letters.


@contextmanager
def _in_hand(settings: Settings) -> Iterator[_Hand]:
    """The letters, to be taken while no other command takes any. What is not settled at the end returns."""
    _refuse_memory(settings)
    tolerate_headers()
    try:
        with pika.BlockingConnection(_parameters(settings)) as connection:
            _lock(connection)
            hand = _Hand(connection)
            try:
                yield hand
            except KiketError:
                hand.give_back()
                raise
            hand.give_back()
    except CONNECTION_FAULTS as fault:
        raise RabbitmqUnreachable(f"RabbitMQ at RABBITMQ_URL cannot be reached: {fault!r}") from fault


def _lock(connection: BlockingConnection) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            connection.channel().queue_declare(_LOCK, exclusive=True)
        except pika.exceptions.ChannelClosedByBroker as fault:
            if fault.reply_code != _RESOURCE_LOCKED:
                raise
        else:
            return
        if time.monotonic() > deadline:
            raise DeadLettersBusy(
                f"another dead-letters command has had the letters in hand for {_LOCK_SECONDS} seconds; try again later"
            )
        connection.sleep(_POLL_SECONDS)


def _parameters(settings: Settings) -> pika.URLParameters:
    try:
        parameters = pika.URLParameters(settings.rabbitmq_url.get_secret_value())
    except ValueError:
        raise InvalidSetting("RABBITMQ_URL is not a connection URL: its port or an option cannot be read") from None
    parameters.blocked_connection_timeout = _BLOCKED_SECONDS
    return parameters


def _refuse_memory(settings: Settings) -> None:
    if settings.in_one_process:
        raise UsageError(
            "with RABBITMQ_URL=memory:// the dead letters are in the memory of the process that refused them, and its "
            "log names each as refresh.rejected; dead-letters needs a RabbitMQ"
        )


def _own_id(message_id: object) -> UUID | None:
    try:
        return UUID(str(message_id))
    except ValueError:
        return None


def _digest(body: bytes, received_at: datetime | None) -> UUID:
    when = received_at.isoformat() if received_at else ""
    return UUID(bytes=sha256(when.encode() + b" " + body).digest()[:16])


def _moment(seconds: object) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC) if isinstance(seconds, int) else None
    except (ValueError, OverflowError, OSError):
        return None


def _death(headers: dict[str, Any]) -> tuple[str, datetime | None]:
    """Why and when RabbitMQ itself put a message here, by the first entry of the header `x-death`.

    A publisher may have written anything into it.
    """
    deaths = headers.get("x-death")
    latest = deaths[0] if isinstance(deaths, list) and deaths else None
    if not isinstance(latest, dict):
        return _UNKNOWN, None
    reason, moment = latest.get("reason"), latest.get("time")
    return (
        reason if isinstance(reason, str) else _UNKNOWN,
        moment.astimezone(UTC) if isinstance(moment, datetime) else None,
    )
