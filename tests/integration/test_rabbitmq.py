"""What only RabbitMQ can do: queues that outlive it, connections that do not."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import dramatiq.worker
import pika
import pytest

from kiket_worker.contract import QUEUE_DEAD, QUEUE_REQUESTS, QUEUE_SCHEDULED, RefreshMessage
from kiket_worker.dev import rabbitmq
from kiket_worker.errors import InvalidSetting, RabbitmqUnreachable
from kiket_worker.queue.broker import DELIVERY_LIMIT, HEADER_REASON, Broker, DeadLetter, QuorumBroker, open_broker
from tests.support.dbt_scripts import until
from tests.support.queues import Queues, channel_to, delete_queues, ready, settings_for, taken

SECONDS = 30


@pytest.fixture
def queues(rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queues]:
    delete_queues(rabbitmq_url)
    # Dramatiq waits so long before it starts a consumer again.
    monkeypatch.setattr(dramatiq.worker, "CONSUMER_RESTART_DELAY_SECS", 0.2)
    opened = Queues(rabbitmq_url)
    yield opened
    opened.broker.close()


@pytest.fixture
def refused_url() -> Iterator[str]:
    """An address at which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"amqp://guest:hunter2@127.0.0.1:{bound.getsockname()[1]}/%2F"


def message(organization: str = "acme") -> RefreshMessage:
    return RefreshMessage(version=1, organization=organization)


def published(broker: Broker, organization: str) -> bool:
    """Whether a publisher gets through: a node that has just started refuses for a moment, its queues not yet led."""
    try:
        broker.publish(message(organization), QUEUE_REQUESTS)
    except RabbitmqUnreachable:
        return False
    return True


@pytest.mark.parametrize("queue_name", [QUEUE_REQUESTS, QUEUE_SCHEDULED])
def test_the_queues_are_durable_quorum_queues_with_a_delivery_limit(queues: Queues, queue_name: str) -> None:
    # RabbitMQ refuses a declaration that differs from the queue it has, in any of these.
    arguments = {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": QUEUE_DEAD,
    }
    with channel_to(queues.url) as channel:
        channel.queue_declare(queue_name, durable=True, arguments=arguments)
    for wrong in (arguments | {"x-delivery-limit": 1}, arguments | {"x-queue-type": "classic"}):
        with channel_to(queues.url) as channel, pytest.raises(pika.exceptions.ChannelClosedByBroker):
            channel.queue_declare(queue_name, durable=True, arguments=wrong)


def test_no_queue_is_declared_beside_those_of_the_design(queues: Queues) -> None:
    for name in (QUEUE_REQUESTS, QUEUE_SCHEDULED, QUEUE_DEAD):
        ready(queues.url, name)
    for suffix in (".DQ", ".XQ"):
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="NOT_FOUND"):
            ready(queues.url, QUEUE_REQUESTS + suffix)


def test_a_message_that_a_consumer_refuses_is_routed_to_the_dead(queues: Queues) -> None:
    queues.send(b"anything")
    with channel_to(queues.url) as channel:
        method, _, _ = channel.basic_get(QUEUE_REQUESTS)
        channel.basic_nack(method.delivery_tag, requeue=False)
    until(lambda: ready(queues.url, QUEUE_DEAD) == 1, "the message is among the dead letters")


def test_a_message_travels_as_the_contract_says_and_is_stored(queues: Queues) -> None:
    queues.broker.publish(message(), QUEUE_REQUESTS)
    ((body, properties),) = taken(queues.url, QUEUE_REQUESTS)
    assert body == b'{"version":1,"organization":"acme"}'
    assert properties.delivery_mode == 2


def test_a_buried_message_is_stored_unchanged_with_its_reason(queues: Queues) -> None:
    queues.broker.bury(DeadLetter(b"\x00\xff", "message_invalid: größe"))
    ((body, properties),) = taken(queues.url, QUEUE_DEAD)
    assert body == b"\x00\xff"
    assert properties.headers[HEADER_REASON] == "message_invalid: größe"
    assert properties.delivery_mode == 2


def test_messages_and_publishers_survive_a_crash_of_the_node(queues: Queues, rabbitmq_folder: Path) -> None:
    node = rabbitmq_folder
    handled: SimpleQueue[str] = SimpleQueue()
    # RabbitMQ 3.10 writes down a moment later that a queue exists; at an orderly end it does so at once.
    rabbitmq.stop(node)
    rabbitmq.start(node)
    until(lambda: published(queues.broker, "kept"), "a publisher mends its connection after an orderly restart")
    queues.broker.bury(DeadLetter(b"kept too", "reason"))
    rabbitmq.kill(node)
    began = time.monotonic()
    with pytest.raises(RabbitmqUnreachable, match="refused"):
        queues.broker.publish(message("lost"), QUEUE_REQUESTS)
    with pytest.raises(RabbitmqUnreachable, match="refused"):
        queues.broker.bury(DeadLetter(b"lost", "reason"))
    assert time.monotonic() - began < 10
    assert rabbitmq.start(node) == queues.url
    until(lambda: published(queues.broker, "after"), "a publisher mends its connection after a crash")
    queues.broker.bury(DeadLetter(b"later", "reason"))
    with queues.consumed_by(lambda received: handled.put(received.organization), concurrency=1):
        assert handled.get(timeout=SECONDS) == "kept"
        until(lambda: handled.get(timeout=SECONDS) == "after", "what was published later is handled")
    assert [letter.body for letter in queues.buried()] == [b"kept too", b"later"]
    assert queues.unsettled() == 0


def test_a_consumer_goes_on_after_its_node_was_restarted(queues: Queues, rabbitmq_folder: Path) -> None:
    node = rabbitmq_folder
    handled: SimpleQueue[str] = SimpleQueue()
    with queues.consumed_by(lambda received: handled.put(received.organization)):
        queues.broker.publish(message("before"), QUEUE_REQUESTS)
        assert handled.get(timeout=SECONDS) == "before"
        rabbitmq.stop(node)
        rabbitmq.start(node)
        until(lambda: published(queues.broker, "after"), "a publisher mends its connection")
        # "before" may come a second time: its acknowledgement may have been on its way when the node ended.
        until(lambda: handled.get(timeout=SECONDS) == "after", "the consumer is there again")
    assert queues.unsettled() == 0


def test_a_queue_that_is_gone_is_declared_again_and_no_message_lost(queues: Queues) -> None:
    queues.broker.publish(message("first"), QUEUE_REQUESTS)
    with channel_to(queues.url) as channel:
        channel.queue_delete(QUEUE_REQUESTS)
        channel.queue_delete(QUEUE_DEAD)
    queues.broker.publish(message("second"), QUEUE_REQUESTS)
    assert [body for body, _ in taken(queues.url, QUEUE_REQUESTS)] == [message("second").to_bytes()]
    with channel_to(queues.url) as channel:
        channel.queue_delete(QUEUE_DEAD)
    queues.broker.bury(DeadLetter(b"bad", "reason"))
    assert ready(queues.url, QUEUE_DEAD) == 1


def test_a_consumer_declares_its_queue_again_when_it_is_gone(queues: Queues) -> None:
    handled: SimpleQueue[str] = SimpleQueue()
    with queues.consumed_by(lambda received: handled.put(received.organization)):
        queues.broker.publish(message("first"), QUEUE_REQUESTS)
        assert handled.get(timeout=SECONDS) == "first"
        with channel_to(queues.url) as channel:
            channel.queue_delete(QUEUE_REQUESTS)

        def is_there() -> bool:
            try:
                return ready(queues.url, QUEUE_REQUESTS) == 0
            except pika.exceptions.ChannelClosedByBroker:
                return False

        until(is_there, "the queue is declared again")
        queues.send(message("second").to_bytes())
        assert handled.get(timeout=SECONDS) == "second"


def test_a_message_of_a_lost_connection_does_not_settle_another_one(queues: Queues) -> None:
    """Delivery tags begin anew with each connection; the first message of each has the same one."""
    assert isinstance(queues.broker, QuorumBroker)
    queues.send(message("first").to_bytes())
    lost = queues.broker.consume(QUEUE_REQUESTS, timeout=5000)
    first = next(lost)
    assert first is not None
    lost.close()
    with channel_to(queues.url) as channel:
        channel.queue_purge(QUEUE_REQUESTS)
    queues.send(message("second").to_bytes())
    current = queues.broker.consume(QUEUE_REQUESTS, timeout=5000)
    second = next(current)
    assert second is not None
    assert second.kwargs["body"] == message("second").to_bytes()
    current.ack(first)
    current.close()
    until(lambda: ready(queues.url, QUEUE_REQUESTS) == 1, "the second message is back, as nobody handled it")


def test_a_failure_after_the_connection_was_lost_is_no_error(queues: Queues) -> None:
    assert isinstance(queues.broker, QuorumBroker)
    queues.send(message().to_bytes())
    consumer = queues.broker.consume(QUEUE_REQUESTS, timeout=5000)
    received = next(consumer)
    assert received is not None
    consumer.close()
    received.stuff_exception(RuntimeError("too late"))
    consumer.ack(received)
    until(lambda: ready(queues.url, QUEUE_REQUESTS) == 1, "RabbitMQ has given the message back by itself")


def test_messages_behind_one_in_hand_go_to_another_worker(queues: Queues) -> None:
    """A worker fetches no more than it can handle."""
    begun, go_on = threading.Event(), threading.Event()
    handled: SimpleQueue[str] = SimpleQueue()

    def slow(_: RefreshMessage) -> None:
        begun.set()
        assert go_on.wait(SECONDS)

    other = Queues(queues.url)
    with queues.consumed_by(slow, concurrency=1):
        queues.broker.publish(message("slow"), QUEUE_REQUESTS)
        assert begun.wait(SECONDS)
        with other.consumed_by(lambda received: handled.put(received.organization), concurrency=1):
            for number in range(5):
                queues.broker.publish(message(f"quick-{number}"), QUEUE_REQUESTS)
            assert {handled.get(timeout=SECONDS) for _ in range(5)} == {f"quick-{number}" for number in range(5)}
        go_on.set()
    other.broker.close()


def test_a_refused_connection_is_told_in_one_line_without_the_password(refused_url: str) -> None:
    began = time.monotonic()
    with pytest.raises(RabbitmqUnreachable, match="Connection refused") as caught:
        open_broker(settings_for(refused_url))
    assert time.monotonic() - began < 10
    assert len(str(caught.value).splitlines()) == 1
    assert "hunter2" not in str(caught.value)


def test_a_wrong_password_and_an_unknown_host_are_told_by_their_reason(rabbitmq_url: str) -> None:
    with pytest.raises(RabbitmqUnreachable, match="refused") as caught:
        open_broker(settings_for(rabbitmq_url.replace("guest:guest", "guest:hunter2")))
    assert "hunter2" not in str(caught.value)
    with pytest.raises(RabbitmqUnreachable, match=r"(?i)name|resolution"):
        open_broker(settings_for("amqp://guest:hunter2@nowhere.invalid"))


@pytest.mark.parametrize(
    "url",
    ["amqp://kiket:hun/ter2@localhost/", "amqp://kiket:pw@localhost:hunter2/", "amqp://localhost/?heartbeat=hunter2"],
)
def test_a_url_that_cannot_be_read_is_a_wrong_setting_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidSetting, match="RABBITMQ_URL") as caught:
        open_broker(settings_for(url))
    assert "hun" not in str(caught.value)


def test_a_caller_is_known_by_the_messages_header_unless_its_body_names_one(queues: Queues) -> None:
    trace, other = (f"00-{digit * 32}-00f067aa0ba902b7-01" for digit in "ab")
    sent = [
        (b'{"version":1,"organization":"acme"}', {"traceparent": trace}, trace),
        (b'{"version":1,"organization":"acme","traceparent":"%s"}' % other.encode(), {"traceparent": trace}, other),
        (b'{"version":1,"organization":"acme","traceparent":"none"}', {"traceparent": trace}, trace),
        (b'{"version":1,"organization":"acme"}', {"traceparent": [trace]}, None),
        (b'{"version":1,"organization":"acme"}', {}, None),
    ]
    handled: SimpleQueue[str | None] = SimpleQueue()
    with queues.consumed_by(lambda message: handled.put(message.caller)), channel_to(queues.url) as channel:
        for body, headers, caller in sent:
            channel.basic_publish("", QUEUE_REQUESTS, body, pika.BasicProperties(headers=headers))
            assert handled.get(timeout=20) == caller
    assert queues.unsettled() == 0
