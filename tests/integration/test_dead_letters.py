"""The dead letters of a real RabbitMQ: looked at, published again, removed, and never lost by any of it."""

import os
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from uuid import UUID, uuid4

import pika
import pika.data
import pytest

import kiket_worker
from kiket_worker.contract import QUEUE_DEAD, QUEUE_REQUESTS, RefreshMessage
from kiket_worker.errors import (
    DeadLettersBusy,
    InvalidSetting,
    QueueMismatch,
    RabbitmqUnreachable,
    UnknownDeadLetter,
    UsageError,
)
from kiket_worker.queue import dead_letters
from kiket_worker.queue.broker import DELIVERY_LIMIT, HEADER_REASON, DeadLetter, open_broker
from kiket_worker.queue.dead_letters import StoredLetter, read_letter
from kiket_worker.settings import Settings
from tests.support.dbt_scripts import until
from tests.support.queues import MEMORY_URL, Queues, channel_to, delete_queues, ready, settings_for, taken

SECONDS = 30
ROOT = Path(kiket_worker.__file__).parent.parent
EXAMPLE = ROOT / "examples" / "publish_refresh.py"


@pytest.fixture
def queues(rabbitmq_url: str) -> Iterator[Queues]:
    delete_queues(rabbitmq_url)
    opened = Queues(rabbitmq_url)
    yield opened
    opened.broker.close()


@pytest.fixture
def settings(queues: Queues) -> Settings:
    return settings_for(queues.url)


def listed(settings: Settings) -> list[StoredLetter]:
    return dead_letters.list_newest(settings, 1000)


def bodies(settings: Settings) -> list[bytes]:
    return [letter.body for letter in listed(settings)]


def bury(queues: Queues, *bodies: bytes) -> None:
    for body in bodies:
        queues.broker.bury(DeadLetter(body, f"message_invalid: {body!r}"))


def test_a_buried_message_has_an_id_a_time_and_its_reason(queues: Queues, settings: Settings) -> None:
    before = int(time.time())
    bury(queues, b"\x00\xff", b"\x00\xff")
    first, second = listed(settings)
    for letter in (first, second):
        assert letter.body == b"\x00\xff"
        assert letter.reason == r"message_invalid: b'\x00\xff'"
        assert letter.received_at is not None
        assert before <= letter.received_at.timestamp() <= time.time()
    assert first.letter_id != second.letter_id
    properties = [properties for _, properties in taken(queues.url, QUEUE_DEAD)]
    assert [UUID(one.message_id) for one in properties] == [second.letter_id, first.letter_id]


def test_the_newest_come_first_even_where_they_are_the_last_of_many(queues: Queues, settings: Settings) -> None:
    with channel_to(queues.url) as channel:
        # As of workers whose clocks or whose ways differ: the queue's order is not that of their times.
        for second in (50, 10, 40, 20, 30):
            properties = pika.BasicProperties(
                message_id=str(uuid4()), timestamp=1_750_000_000 + second, headers={HEADER_REASON: "reason"}
            )
            channel.basic_publish("", QUEUE_DEAD, str(second).encode(), properties)
    until(lambda: ready(queues.url, QUEUE_DEAD) == 5, "the letters are there")
    bury(queues, b"now", b"now too")
    assert bodies(settings) == [b"now too", b"now", b"50", b"40", b"30", b"20", b"10"]
    assert [letter.body for letter in dead_letters.list_newest(settings, 3)] == [b"now too", b"now", b"50"]


def test_looking_often_loses_and_changes_nothing(queues: Queues, settings: Settings) -> None:
    bury(queues, b"1", b"2", b"3")
    first = listed(settings)
    for _ in range(2 * DELIVERY_LIMIT + 5):
        assert listed(settings) == first
    assert ready(queues.url, QUEUE_DEAD) == 3


def give_up_on(queues: Queues, *bodies: bytes) -> None:
    """Let RabbitMQ itself give up on messages, as it does when no worker lives through them."""
    for body in bodies:
        queues.send(body)
    until(lambda: ready(queues.url, QUEUE_REQUESTS) == len(bodies), "the messages are there")
    with channel_to(queues.url) as channel:
        tries = 0
        while (got := channel.basic_get(QUEUE_REQUESTS))[0] is not None:
            channel.basic_nack(got[0].delivery_tag, requeue=True)
            tries += 1
        assert tries >= DELIVERY_LIMIT
    until(lambda: ready(queues.url, QUEUE_DEAD) == len(bodies), "RabbitMQ has given up")


def test_a_message_that_rabbitmq_gave_up_on_keeps_an_id_of_its_content(queues: Queues, settings: Settings) -> None:
    before = int(time.time())
    give_up_on(queues, b"killer")
    (letter,) = listed(settings)
    assert (letter.body, letter.reason) == (b"killer", "delivery_limit")
    assert letter.received_at is not None
    assert before <= letter.received_at.timestamp() <= time.time()
    assert listed(settings) == [letter], "the id is the same each time"
    bury(queues, b"another")
    assert dead_letters.drop(settings, [letter.letter_id]) == 1
    assert bodies(settings) == [b"another"]


def test_messages_that_others_put_there_are_shown_and_can_be_dropped(queues: Queues, settings: Settings) -> None:
    strange = [
        pika.BasicProperties(),
        pika.BasicProperties(headers={"x-death": "yesterday"}, timestamp=2**63),
        pika.BasicProperties(headers={HEADER_REASON: 7}, message_id="seven"),
        pika.BasicProperties(headers={HEADER_REASON: "by hand"}, message_id="seven", timestamp=2**63),
    ]
    with channel_to(queues.url) as channel:
        for number, properties in enumerate(strange):
            channel.basic_publish("", QUEUE_DEAD, str(number).encode(), properties)
    until(lambda: ready(queues.url, QUEUE_DEAD) == len(strange), "the letters are there")
    found = listed(settings)
    assert [(letter.body, letter.reason, letter.received_at) for letter in found] == [
        (b"3", "by hand", None),
        (b"2", "unknown", None),
        (b"1", "unknown", None),
        (b"0", "unknown", None),
    ]
    assert len({letter.letter_id for letter in found}) == len(found)
    assert dead_letters.drop(settings, [found[1].letter_id]) == 1
    assert bodies(settings) == [b"3", b"1", b"0"]


@pytest.mark.parametrize("deaths", [None, [], [7], [{}], [{"reason": 7, "time": "now"}], {"reason": "expired"}])
def test_a_death_that_cannot_be_read_is_unknown(deaths: object) -> None:
    letter = read_letter(b"", pika.BasicProperties(headers={"x-death": deaths}))
    assert (letter.reason, letter.received_at) == ("unknown", None)


def test_the_latest_death_counts() -> None:
    moments = [datetime(2026, 6, 15, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)]
    deaths = [{"reason": "delivery_limit", "time": moments[0]}, {"reason": "expired", "time": moments[1]}]
    letter = read_letter(b"", pika.BasicProperties(headers={"x-death": deaths}))
    assert (letter.reason, letter.received_at) == ("delivery_limit", moments[0])


def in_arrays(value: bytes, depth: int) -> bytes:
    for _ in range(depth):
        value = b"A" + struct.pack(">I", len(value)) + value
    return value


FAR_FUTURE = b"T" + struct.pack(">Q", 2**62)
STRANGE_VALUES = {
    "beyond all years": FAR_FUTURE,
    "beyond all years, in a table": b"F" + struct.pack(">I", len(FAR_FUTURE) + 2) + b"\x01x" + FAR_FUTURE,
    "nested deeply": in_arrays(b"V", 3000),
}


@pytest.mark.parametrize("value", STRANGE_VALUES.values(), ids=STRANGE_VALUES)
def test_headers_that_cannot_be_read_do_not_hide_the_letters_behind(
    queues: Queues, settings: Settings, monkeypatch: pytest.MonkeyPatch, value: bytes
) -> None:
    """They would end pika's connection, and with it each command. Clients of other languages can write them."""
    table = b"\x06x-load" + value
    with channel_to(queues.url) as channel, monkeypatch.context() as patch:
        encoded = struct.pack(">I", len(table)) + table
        patch.setattr(pika.data, "encode_table", lambda pieces, _: pieces.append(encoded) or len(encoded))
        channel.basic_publish("", QUEUE_DEAD, b"strange", pika.BasicProperties(headers={"": ""}))
    until(lambda: ready(queues.url, QUEUE_DEAD) == 1, "the letter is there")
    bury(queues, b"behind")
    assert bodies(settings) == [b"behind", b"strange"]
    assert dead_letters.drop(settings, None) == 2


def test_a_replayed_letter_is_a_request_and_no_dead_letter_any_more(queues: Queues, settings: Settings) -> None:
    bury(queues, b"first", b"second", b"third")
    third, _, first = listed(settings)
    assert dead_letters.replay(settings, [third.letter_id, first.letter_id]) == 2
    assert bodies(settings) == [b"second"]
    published = taken(queues.url, QUEUE_REQUESTS)
    assert [body for body, _ in published] == [b"first", b"third"]
    assert all(properties.delivery_mode == 2 for _, properties in published)
    assert all(HEADER_REASON not in (properties.headers or {}) for _, properties in published)


def test_a_letter_that_could_not_be_published_stays(
    queues: Queues, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ confirms a message for a queue that is gone, but returns it first."""
    bury(queues, b"kept")

    opened = open_broker(settings)
    monkeypatch.setattr(dead_letters, "open_broker", lambda _: opened)
    with channel_to(queues.url) as channel:
        channel.queue_delete(QUEUE_REQUESTS)
    with pytest.raises(RabbitmqUnreachable, match="Unroutable"):
        dead_letters.replay(settings, None)
    assert bodies(settings) == [b"kept"]


def test_a_missing_queue_of_requests_is_declared_before_a_replay(queues: Queues, settings: Settings) -> None:
    bury(queues, b"kept")
    with channel_to(queues.url) as channel:
        channel.queue_delete(QUEUE_REQUESTS)
    assert dead_letters.replay(settings, None) == 1
    assert [body for body, _ in taken(queues.url, QUEUE_REQUESTS)] == [b"kept"]


def test_an_unknown_id_is_named_and_nothing_is_changed(queues: Queues, settings: Settings) -> None:
    bury(queues, b"kept", b"kept too")
    known, unknown = listed(settings)[0].letter_id, uuid4()
    for command in (dead_letters.replay, dead_letters.drop):
        with pytest.raises(UnknownDeadLetter, match=str(unknown)) as caught:
            command(settings, [known, unknown])
        assert str(known) not in str(caught.value)
    assert bodies(settings) == [b"kept too", b"kept"]
    assert ready(queues.url, QUEUE_REQUESTS) == 0


def test_replaying_everything_ends_although_a_worker_refuses_it_again(queues: Queues, settings: Settings) -> None:
    bad = [f"bad {number}".encode() for number in range(20)]
    bury(queues, *bad)
    before = {letter.letter_id for letter in listed(settings)}
    handled: SimpleQueue[str] = SimpleQueue()
    with queues.consumed_by(lambda message: handled.put(message.organization)):
        assert dead_letters.replay(settings, None) == len(bad)
        until(lambda: ready(queues.url, QUEUE_DEAD) == len(bad), "all are refused again")
    after = listed(settings)
    assert sorted(letter.body for letter in after) == sorted(bad)
    assert not before & {letter.letter_id for letter in after}
    assert handled.empty()


def test_a_replayed_message_is_handled_by_a_running_worker(queues: Queues, settings: Settings) -> None:
    bury(queues, b'{"version": 1, "organization": "acme"}')
    handled: SimpleQueue[str] = SimpleQueue()
    with queues.consumed_by(lambda message: handled.put(message.organization)):
        assert dead_letters.replay(settings, None) == 1
        assert handled.get(timeout=SECONDS) == "acme"
    assert listed(settings) == []


def test_dropping_everything_leaves_nothing(queues: Queues, settings: Settings) -> None:
    bury(queues, b"1", b"2")
    assert dead_letters.drop(settings, None) == 2
    assert listed(settings) == []
    assert ready(queues.url, QUEUE_REQUESTS) == 0


def test_without_letters_or_without_their_queue_there_is_nothing_to_list(queues: Queues, settings: Settings) -> None:
    assert listed(settings) == []
    with channel_to(queues.url) as channel:
        channel.queue_delete(QUEUE_DEAD)
    assert listed(settings) == []
    assert dead_letters.drop(settings, None) == 0
    with pytest.raises(UnknownDeadLetter):
        dead_letters.drop(settings, [uuid4()])
    with channel_to(queues.url) as channel, pytest.raises(pika.exceptions.ChannelClosedByBroker):
        channel.queue_declare(QUEUE_DEAD, passive=True)


def test_commands_at_the_same_time_all_see_every_letter(queues: Queues, settings: Settings) -> None:
    expected = [f"{number}".encode() for number in range(50)]
    bury(queues, *expected)
    seen: SimpleQueue[list[bytes]] = SimpleQueue()

    def look() -> None:
        for _ in range(5):
            seen.put(sorted(bodies(settings)))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert [seen.get_nowait() for _ in range(20)] == [sorted(expected)] * 20


def test_two_commands_that_drop_do_not_take_each_others_letters(queues: Queues, settings: Settings) -> None:
    bury(queues, *(f"{number}".encode() for number in range(40)))
    ids = [letter.letter_id for letter in listed(settings)]
    dropped: SimpleQueue[int] = SimpleQueue()
    threads = [
        threading.Thread(target=lambda share=share: dropped.put(dead_letters.drop(settings, share)))
        for share in (ids[::2], ids[1::2])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert [dropped.get_nowait(), dropped.get_nowait()] == [20, 20]
    assert listed(settings) == []


def test_a_command_that_does_not_get_its_turn_says_so(
    queues: Queues, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "_LOCK_SECONDS", 0.3)
    bury(queues, b"kept")
    with channel_to(queues.url) as other:
        other.queue_declare(f"{QUEUE_DEAD}.lock", exclusive=True)
        with pytest.raises(DeadLettersBusy, match="another"):
            listed(settings)
    monkeypatch.undo()
    assert bodies(settings) == [b"kept"]


def test_a_command_that_is_killed_gives_everything_back(queues: Queues, settings: Settings) -> None:
    bury(queues, b"1", b"2")
    stuck = textwrap.dedent(
        """
        import sys, threading
        from kiket_worker.queue import dead_letters
        from tests.support.queues import settings_for

        def wait(body, properties):
            print("in hand", flush=True)
            threading.Event().wait()

        dead_letters.read_letter = wait
        dead_letters.drop(settings_for(sys.argv[1]), None)
        """
    )
    with subprocess.Popen([sys.executable, "-c", stuck, queues.url], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in hand\n"
        assert ready(queues.url, QUEUE_DEAD) == 1
        process.kill()
    until(lambda: ready(queues.url, QUEUE_DEAD) == 2, "RabbitMQ has noticed")
    assert bodies(settings) == [b"2", b"1"]


def test_the_example_for_publishers_is_a_message_of_the_contract(queues: Queues) -> None:
    environment = os.environ | {"RABBITMQ_URL": queues.url}
    command = [sys.executable, str(EXAMPLE), "acme"]
    subprocess.run(command, env=environment, check=True, timeout=60)
    ((body, properties),) = taken(queues.url, QUEUE_REQUESTS)
    assert RefreshMessage.from_bytes(body).organization == "acme"
    assert properties.delivery_mode == 2
    with channel_to(queues.url) as channel:
        channel.queue_delete(QUEUE_REQUESTS)
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode != 0
    assert "UnroutableError" in refused.stderr


@pytest.mark.parametrize("queue_name", [QUEUE_REQUESTS, QUEUE_DEAD])
def test_a_queue_with_other_arguments_is_an_error_of_its_own(rabbitmq_url: str, queue_name: str) -> None:
    delete_queues(rabbitmq_url)
    with channel_to(rabbitmq_url) as channel:
        channel.queue_declare(queue_name, durable=True)
    try:
        with pytest.raises(QueueMismatch, match=f"'{queue_name}'.*delete the queue") as caught:
            open_broker(settings_for(rabbitmq_url))
    finally:
        delete_queues(rabbitmq_url)
    assert (caught.value.kind, caught.value.retryable, caught.value.exit_code) == ("queue_mismatch", False, 1)
    assert len(str(caught.value).splitlines()) == 1


def test_letters_of_a_queue_with_other_arguments_can_be_finished(rabbitmq_url: str) -> None:
    delete_queues(rabbitmq_url)
    try:
        with channel_to(rabbitmq_url) as channel:
            channel.queue_declare(QUEUE_DEAD, durable=True)
            channel.confirm_delivery()
            channel.basic_publish("", QUEUE_DEAD, b"old", mandatory=True)
        assert bodies(settings_for(rabbitmq_url)) == [b"old"]
        assert dead_letters.drop(settings_for(rabbitmq_url), None) == 1
        assert bodies(settings_for(rabbitmq_url)) == []
    finally:
        delete_queues(rabbitmq_url)


def test_without_rabbitmq_the_reason_is_told() -> None:
    for command in (dead_letters.list_newest, dead_letters.replay, dead_letters.drop):
        with pytest.raises(UsageError, match="memory://"):
            command(settings_for(MEMORY_URL), 1)  # type: ignore[operator]
    with pytest.raises(RabbitmqUnreachable, match="refused") as caught:
        listed(settings_for("amqp://guest:hunter2@127.0.0.1:9/%2F"))
    assert "hunter2" not in str(caught.value)
    with pytest.raises(InvalidSetting, match="RABBITMQ_URL") as misspelt:
        listed(settings_for("amqp://kiket:hun/ter2@localhost/"))
    assert "hun" not in str(misspelt.value)
