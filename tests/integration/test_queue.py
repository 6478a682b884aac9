"""The way of a message: one suite for memory and RabbitMQ."""

import io
import json
import threading
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import Any

import psutil
import pytest

from kiket_worker.contract import QUEUE_REQUESTS, QUEUE_SCHEDULED, Reason, RefreshMessage
from kiket_worker.errors import RunNotCancellable, UnknownOrganization, WorkerStopped
from kiket_worker.telemetry.logs import set_up_logs
from tests.support.dbt_scripts import until
from tests.support.queues import MEMORY_URL, Queues, delete_queues

SECONDS = 20


@pytest.fixture(params=["memory", "rabbitmq"])
def queues(request: pytest.FixtureRequest) -> Iterator[Queues]:
    """Empty queues of each kind."""
    url = MEMORY_URL if request.param == "memory" else request.getfixturevalue("rabbitmq_url")
    if url != MEMORY_URL:
        delete_queues(url)
    opened = Queues(url)
    yield opened
    opened.broker.close()


@pytest.fixture
def log() -> io.StringIO:
    stream = io.StringIO()
    set_up_logs(stream)
    return stream


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in json.loads(line).items() if name != "timestamp"}
        for line in log.getvalue().splitlines()
    ]


def message(organization: str = "acme", **fields: Any) -> RefreshMessage:
    return RefreshMessage(version=1, organization=organization, **fields)


class Handled:
    """A handler that notes what it got."""

    def __init__(self) -> None:
        self._messages: SimpleQueue[RefreshMessage] = SimpleQueue()

    def __call__(self, received: RefreshMessage) -> None:
        self._messages.put(received)

    def next(self) -> RefreshMessage:
        return self._messages.get(timeout=SECONDS)

    def assert_no_more(self) -> None:
        with pytest.raises(Empty):
            self._messages.get_nowait()


@pytest.mark.parametrize("queue_name", [QUEUE_REQUESTS, QUEUE_SCHEDULED])
def test_a_message_reaches_the_handler_once_and_is_acknowledged(queues: Queues, queue_name: str) -> None:
    sent = message(reason=Reason.SYNC, select=["fct_cycle_time+"], requested_by="größe")
    handled = Handled()
    with queues.consumed_by(handled):
        queues.broker.publish(sent, queue_name)
        assert handled.next() == sent
    handled.assert_no_more()
    assert queues.unsettled() == 0
    assert queues.buried() == []


def test_what_was_published_before_a_consumer_started_is_handled(queues: Queues) -> None:
    queues.broker.publish(message("first"), QUEUE_REQUESTS)
    queues.broker.publish(message("second"), QUEUE_SCHEDULED)
    handled = Handled()
    with queues.consumed_by(handled):
        assert {handled.next().organization, handled.next().organization} == {"first", "second"}


def test_a_body_that_no_python_wrote_is_handled(queues: Queues) -> None:
    handled = Handled()
    with queues.consumed_by(handled):
        queues.send(b'{ "organization":\n"acme", "version":1, "newer": [] }')
        assert handled.next() == message()
    assert queues.unsettled() == 0


BAD_BODIES = {
    "empty": (b"", "message: "),
    "no JSON": (b"refresh acme", "message: "),
    "wrong shape": (b'{"version": 1}', "organization: "),
    "array": (b"[]", "message: "),
    "invalid UTF-8": (b'{"version":1,"organization":"\xff"}', "message: "),
    "5 MB": (b'{"version":1,"organization":"acme","x":"' + b"x" * 5_000_000 + b'"}', "message: the body has 5000042 "),
    "Dramatiq's envelope": (
        b'{"queue_name":"kiket.analytics.refresh","actor_name":"refresh","args":[],"kwargs":{"body":"e30="},'
        b'"options":{"eta":99999999999999},"message_id":"1","message_timestamp":1}',
        "version: ",
    ),
}


@pytest.mark.parametrize("queue_name", [QUEUE_REQUESTS, QUEUE_SCHEDULED])
def test_bad_bodies_are_buried_with_the_reason_and_hold_nothing_up(
    queues: Queues, log: io.StringIO, queue_name: str
) -> None:
    handled = Handled()
    with queues.consumed_by(handled, concurrency=1):
        for body, _ in BAD_BODIES.values():
            queues.send(body, queue_name)
        queues.broker.publish(message(), queue_name)
        assert handled.next() == message()
    buried = {letter.body: letter.reason for letter in queues.buried()}
    assert buried.keys() == {body for body, _ in BAD_BODIES.values()}
    for body, reason in BAD_BODIES.values():
        assert buried[body].startswith(f"message_invalid: {reason}")
    assert queues.unsettled() == 0
    # Nothing else is said: no consumer met an error, none was started again.
    rejected = lines(log)
    assert [(line["event"], line["level"], line["error_kind"]) for line in rejected] == [
        ("refresh.rejected", "warning", "message_invalid")
    ] * len(BAD_BODIES)
    assert {f"message_invalid: {line['error']}" for line in rejected} == set(buried.values())


def test_a_message_for_nobody_is_buried(queues: Queues, log: io.StringIO) -> None:
    handled = Handled()

    def handle(received: RefreshMessage) -> None:
        if received.organization == "nobody":
            raise UnknownOrganization(received.organization)
        handled(received)

    with queues.consumed_by(handle, concurrency=1):
        queues.broker.publish(message("nobody"), QUEUE_REQUESTS)
        queues.broker.publish(message(), QUEUE_REQUESTS)
        assert handled.next() == message()
    (letter,) = queues.buried()
    assert letter.body == message("nobody").to_bytes()
    assert letter.reason.startswith("organization_unknown: no organisation has the slug 'nobody'")
    assert [line["event"] for line in lines(log)] == ["refresh.rejected"]
    assert queues.unsettled() == 0


def test_a_message_whose_handling_failed_comes_back(queues: Queues, log: io.StringIO) -> None:
    handled = Handled()
    failures = iter([RuntimeError("password=hunter2"), RunNotCancellable("by now"), WorkerStopped("ends")])

    def handle(received: RefreshMessage) -> None:
        if fault := next(failures, None):
            raise fault
        handled(received)

    with queues.consumed_by(handle):
        queues.broker.publish(message(), QUEUE_SCHEDULED)
        assert handled.next() == message()
    handled.assert_no_more()
    assert queues.unsettled() == 0
    assert queues.buried() == []
    unexpected, known = lines(log)
    assert (unexpected["event"], unexpected["error_kind"]) == ("worker.failed", "internal")
    assert unexpected["error"].startswith("RuntimeError at ")
    assert "hunter2" not in log.getvalue()
    assert (known["event"], known["error_kind"], known["error"]) == ("worker.failed", "run_ended", "by now")


def test_a_message_that_can_never_be_handled_ends_among_the_dead(queues: Queues) -> None:
    handled = Handled()

    def handle(received: RefreshMessage) -> None:
        handled(received)
        if received.organization == "poison":
            raise RuntimeError("always")

    buried = []
    with queues.consumed_by(handle, concurrency=1):
        queues.broker.publish(message("poison"), QUEUE_REQUESTS)
        until(lambda: buried.extend(queues.buried()) or buried, "the message is among the dead letters")
        queues.broker.publish(message("healthy"), QUEUE_REQUESTS)
        until(lambda: handled.next().organization == "healthy", "the next message is handled")
    assert [letter.body for letter in buried] == [message("poison").to_bytes()]
    assert queues.unsettled() == 0


@pytest.mark.parametrize("queue_name", [QUEUE_REQUESTS, QUEUE_SCHEDULED])
def test_as_many_messages_are_handled_at_a_time_as_was_asked_and_no_more(queues: Queues, queue_name: str) -> None:
    concurrency, total = 4, 12
    together = threading.Barrier(concurrency)
    lock = threading.Lock()
    active = most = done = 0

    def handle(_: RefreshMessage) -> None:
        nonlocal active, most, done
        with lock:
            active += 1
            most = max(most, active)
        together.wait(SECONDS)  # Broken, and so the test fails, if fewer than `concurrency` come together.
        with lock:
            active -= 1
            done += 1

    with queues.consumed_by(handle, concurrency=concurrency):
        for number in range(total):
            queues.broker.publish(message(f"org-{number}"), queue_name)
        until(lambda: done == total, "all messages are handled")
    assert most == concurrency
    assert not together.broken


def test_messages_published_at_the_same_time_all_arrive(queues: Queues) -> None:
    handled = Handled()
    names = {f"org-{number}" for number in range(40)}
    batches = [sorted(names)[number::4] for number in range(4)]

    def publish(batch: list[str]) -> None:
        for name in batch:
            queues.broker.publish(message(name), QUEUE_REQUESTS)

    publishers = [threading.Thread(target=publish, args=(batch,)) for batch in batches]
    with queues.consumed_by(handled, concurrency=4):
        for publisher in publishers:
            publisher.start()
        assert {handled.next().organization for _ in names} == names
        for publisher in publishers:
            publisher.join()
    handled.assert_no_more()
    assert queues.unsettled() == 0


def test_stop_waits_for_what_is_in_hand_and_acknowledges_it(queues: Queues) -> None:
    begun, go_on, finished = threading.Event(), threading.Event(), threading.Event()

    def handle(_: RefreshMessage) -> None:
        begun.set()
        assert go_on.wait(SECONDS)
        finished.set()

    with queues.consumed_by(handle) as consumers:
        queues.broker.publish(message(), QUEUE_REQUESTS)
        assert begun.wait(SECONDS)
        stopper = threading.Thread(target=consumers.stop)
        stopper.start()
        stopper.join(0.3)
        assert stopper.is_alive(), "stop returned while a message was being handled"
        go_on.set()
        stopper.join(SECONDS)
        assert not stopper.is_alive()
    assert finished.is_set()
    assert queues.unsettled() == 0


def test_starting_and_stopping_leaves_no_thread_and_no_connection_behind(queues: Queues) -> None:
    def once() -> None:
        handled = Handled()
        opened = Queues(queues.url)
        with opened.consumed_by(handled):
            opened.send(b"bad")
            opened.broker.publish(message(), QUEUE_REQUESTS)
            handled.next()
            until(opened.buried, "the bad message is buried")
        opened.broker.close()

    def held() -> tuple[int, int]:
        return threading.active_count(), len(psutil.Process().net_connections())

    queues.broker.close()
    before = held()
    for _ in range(3):
        once()
    until(lambda: held() <= before, f"threads and connections are back to {before}")
