"""What goes wrong between Dramatiq 2.2.1 and RabbitMQ by itself, each shown to be harmless here.

Connections are cut by a proxy in front of a real node. What no test can wait for (that nothing is fetched) is watched
for a while: such a test may miss a fault, and never fails without one.
"""

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol
from urllib.parse import urlsplit

import dramatiq
import dramatiq.worker
import pytest

from kiket_worker.contract import QUEUE_DEAD, QUEUE_REQUESTS, QUEUE_SCHEDULED, Reason, RefreshMessage
from kiket_worker.dev import rabbitmq
from kiket_worker.ledger import runs
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.runs import Status
from kiket_worker.queue.broker import QuorumBroker
from kiket_worker.queue.pulling import RabbitmqConsumer
from kiket_worker.refresh.worker import RefreshWorker
from tests.faults.proxy import Proxy
from tests.support.dbt_scripts import until
from tests.support.queues import Queues, channel_to, delete_queues, ready
from tests.support.refreshes import Refreshes

SECONDS = 30
WATCHED_SECONDS = 0.6
CONSUMED = (QUEUE_REQUESTS, QUEUE_SCHEDULED)


class TestDatabase(Protocol):
    __test__ = False

    url: str


def message(organization: str = "acme") -> RefreshMessage:
    return RefreshMessage(version=1, organization=organization)


def waiting(queues: Queues) -> int:
    """Messages that are ready in both queues: those in somebody's hand are not."""
    return sum(ready(queues.url, name) for name in CONSUMED)


def stays(queues: Queues, count: int) -> None:
    until_waiting(queues, count)
    watched_until = time.monotonic() + WATCHED_SECONDS
    while time.monotonic() < watched_until:
        assert waiting(queues) == count
        time.sleep(0.02)


def until_waiting(queues: Queues, count: int) -> None:
    until(lambda: waiting(queues) == count, f"{count} messages to wait")


class Held:
    """A handler that shows each delivery, and ends those of the organisations named here only when it is told to."""

    def __init__(self, *organizations: str) -> None:
        self._held = set(organizations)
        self._lock = threading.Lock()
        self.begun: SimpleQueue[str] = SimpleQueue()
        self.go_on = threading.Event()
        self.active = self.most = 0

    def __call__(self, received: RefreshMessage) -> None:
        with self._lock:
            self.active += 1
            self.most = max(self.most, self.active)
        self.begun.put(received.organization)
        try:
            if received.organization in self._held:
                assert self.go_on.wait(SECONDS)
        finally:
            with self._lock:
                self.active -= 1

    def next(self) -> str:
        return self.begun.get(timeout=SECONDS)

    def assert_no_more(self) -> None:
        with pytest.raises(Empty):
            self.begun.get_nowait()


@contextmanager
def consumed(queues: Queues, held: Held, concurrency: int) -> Iterator[Any]:
    """Consumers that are not waited for when the test has failed."""
    with queues.consumed_by(held, concurrency=concurrency) as consumers:
        try:
            yield consumers
        finally:
            held.go_on.set()


@pytest.fixture(autouse=True)
def _quick_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    # Dramatiq waits so long before it starts a consumer again.
    monkeypatch.setattr(dramatiq.worker, "CONSUMER_RESTART_DELAY_SECS", 0.1)


@pytest.fixture
def queues(rabbitmq_url: str) -> Iterator[Queues]:
    delete_queues(rabbitmq_url)
    opened = Queues(rabbitmq_url)
    yield opened
    opened.broker.close()


@pytest.fixture
def another(queues: Queues) -> Iterator[Queues]:
    """Another worker's broker."""
    opened = Queues(queues.url)
    yield opened
    opened.broker.close()


@pytest.fixture
def proxy(rabbitmq_url: str) -> Iterator[Proxy]:
    port = urlsplit(rabbitmq_url).port
    assert port is not None
    with Proxy(("127.0.0.1", port)) as opened:
        yield opened


@pytest.fixture
def far(queues: Queues, proxy: Proxy) -> Iterator[Queues]:
    """A worker whose connection to the same queues can be cut."""
    opened = Queues(f"amqp://guest:guest@127.0.0.1:{proxy.port}/%2F")
    yield opened
    opened.broker.close()


# Acknowledging after a reconnect.


def test_what_ends_after_a_reconnect_does_not_acknowledge_what_is_in_hand_then(
    queues: Queues, far: Queues, proxy: Proxy
) -> None:
    """Delivery tags begin anew with each connection: the first message of either has the same one."""
    first_may_end, second_may_end = threading.Event(), threading.Event()
    begun: SimpleQueue[str] = SimpleQueue()
    ended: SimpleQueue[str] = SimpleQueue()

    def handle(received: RefreshMessage) -> None:
        name = received.organization
        begun.put(name)
        assert (first_may_end if name == "first" else second_may_end).wait(SECONDS)
        ended.put(name)
        if name == "second" and next(failures, False):
            raise RuntimeError("fails, and has to come back")

    failures = iter([True])
    with far.consumed_by(handle, concurrency=2):
        queues.broker.publish(message("first"), QUEUE_REQUESTS)
        assert begun.get(timeout=SECONDS) == "first"
        proxy.cut()
        # RabbitMQ gives the first one out again. Another worker has it, and leaves the second to the new connection.
        with channel_to(queues.url) as channel:
            until(lambda: channel.basic_get(QUEUE_REQUESTS, auto_ack=True)[0], "the first message to be back")
            channel.basic_publish("", QUEUE_REQUESTS, message("second").to_bytes())
        assert begun.get(timeout=SECONDS) == "second"
        first_may_end.set()
        assert ended.get(timeout=SECONDS) == "first"
        # Had its end acknowledged the second message, that one's failure would not bring it back.
        second_may_end.set()
        assert ended.get(timeout=SECONDS) == "second"
        assert begun.get(timeout=SECONDS) == "second"
        assert ended.get(timeout=SECONDS) == "second"
    assert queues.unsettled() == 0
    assert queues.buried() == []


def test_a_worker_that_reconnects_fetches_nothing_for_threads_that_are_busy(
    queues: Queues, far: Queues, another: Queues, proxy: Proxy
) -> None:
    held, quick = Held("long"), Held()
    with consumed(far, held, concurrency=1):
        queues.broker.publish(message("long"), QUEUE_REQUESTS)
        assert held.next() == "long"
        proxy.cut()
        # It is given out again, and not to the worker whose only thread is at it still.
        stays(queues, 1)
        for number in range(4):
            queues.broker.publish(message(f"other-{number}"), QUEUE_SCHEDULED)
        stays(queues, 5)
        with consumed(another, quick, concurrency=1):
            assert [quick.next() for _ in range(5)] == ["long", *(f"other-{number}" for number in range(4))]
        held.assert_no_more()
        held.go_on.set()
        queues.broker.publish(message("later"), QUEUE_REQUESTS)
        assert held.next() == "later", "its thread is free again"
    assert queues.unsettled() == 0


def test_threads_are_used_in_full_again_after_many_reconnects(queues: Queues, far: Queues, proxy: Proxy) -> None:
    held = Held("a", "b", "c")
    with consumed(far, held, concurrency=3):
        for number in range(5):
            queues.broker.publish(message(f"quick-{number}"), QUEUE_REQUESTS)
            until(lambda number=number: held.next() == f"quick-{number}", "the message to be handled")
            proxy.cut()
        for name in "abc":
            queues.broker.publish(message(name), QUEUE_REQUESTS)
        together = set()
        until(lambda: together.add(held.next()) or together >= set("abc"), "three messages in hand at once")
        assert held.most <= 3
        held.go_on.set()
    assert queues.unsettled() == 0


# No more in hand than threads.


def test_no_more_messages_are_in_hand_than_threads_over_both_queues(queues: Queues) -> None:
    names = [f"org-{number}" for number in range(12)]
    held = Held(*names)
    for number, name in enumerate(names):
        queues.broker.publish(message(name), CONSUMED[number % 2])
    with consumed(queues, held, concurrency=3):
        for _ in range(3):
            held.next()
        stays(queues, 9)
        held.go_on.set()
        for _ in range(9):
            held.next()
    assert held.most == 3
    assert queues.unsettled() == 0


def test_a_long_run_holds_no_message_of_another_tenant(queues: Queues, another: Queues) -> None:
    held, quick = Held("long"), Held()
    names = {f"org-{number}" for number in range(30)}
    with consumed(queues, held, concurrency=1):
        queues.broker.publish(message("long"), QUEUE_SCHEDULED)
        assert held.next() == "long"
        for number, name in enumerate(sorted(names)):
            queues.broker.publish(message(name), CONSUMED[number % 2])
        stays(queues, 30)
        with consumed(another, quick, concurrency=2):
            assert {quick.next() for _ in names} == names
        held.assert_no_more()
        assert waiting(queues) == 0
        held.go_on.set()
    assert queues.unsettled() == 0


# Requests before the schedule.


def test_a_request_is_next_however_long_the_schedules_backlog(queues: Queues) -> None:
    held = Held("org-0")
    with channel_to(queues.url) as channel:
        channel.confirm_delivery()  # A quorum queue may lose the last of many where nobody waits for its word.
        for number in range(500):
            channel.basic_publish("", QUEUE_SCHEDULED, message(f"org-{number}").to_bytes())
    until_waiting(queues, 500)
    with consumed(queues, held, concurrency=1):
        assert held.next() == "org-0"
        queues.broker.publish(message("urgent"), QUEUE_REQUESTS)
        held.go_on.set()
        assert held.next() == "urgent"
        assert held.next() == "org-1"


def test_a_request_that_comes_as_a_thread_gets_free_goes_before_the_schedule(queues: Queues, another: Queues) -> None:
    order: SimpleQueue[str] = SimpleQueue()

    def handle(received: RefreshMessage) -> None:
        order.put(received.organization)
        if received.organization.startswith("org-"):
            # Confirmed when this returns, and the thread is free just after.
            another.broker.publish(message("urgent"), QUEUE_REQUESTS)

    for number in range(30):
        queues.broker.publish(message(f"org-{number}"), QUEUE_SCHEDULED)
    with queues.consumed_by(handle, concurrency=1):
        told = [order.get(timeout=SECONDS) for _ in range(60)]
    assert told == [name for number in range(30) for name in (f"org-{number}", "urgent")]


# The end.


def test_a_worker_that_ends_fetches_nothing_more_while_a_run_goes_on(queues: Queues) -> None:
    held = Held("long")
    with consumed(queues, held, concurrency=3) as consumers:
        queues.broker.publish(message("long"), QUEUE_REQUESTS)
        assert held.next() == "long"
        stopper = threading.Thread(target=consumers.stop)
        stopper.start()
        until(queues.broker.halted.is_set, "the end to begin")
        for number in range(5):
            queues.broker.publish(message(f"org-{number}"), CONSUMED[number % 2])
        # Two threads were free a moment ago. What they may have fetched just then is handled or back.
        stays(queues, 5 - held.begun.qsize())
        assert stopper.is_alive(), "it waits for the run in hand"
        held.go_on.set()
        stopper.join(SECONDS)
        assert not stopper.is_alive()
    assert held.begun.qsize() + waiting(queues) == 5
    assert queues.buried() == []


def test_what_was_fetched_as_the_end_began_is_given_back_at_once(
    queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The threads may have ended already, and then nobody would handle it until the last run in hand ends."""
    assert isinstance(queues.broker, QuorumBroker)
    consumer = queues.broker.consume(QUEUE_REQUESTS)
    assert isinstance(consumer, RabbitmqConsumer)
    fetch = consumer._fetch

    def fetch_as_the_end_begins() -> dramatiq.MessageProxy | None:
        fetched = fetch()
        queues.broker.halted.set()
        return fetched

    monkeypatch.setattr(consumer, "_fetch", fetch_as_the_end_begins)
    queues.broker.publish(message(), QUEUE_REQUESTS)
    assert next(consumer) is None
    assert next(consumer) is None
    until_waiting(queues, 1)
    consumer.close()


# What Dramatiq would add.


def test_nothing_of_dramatiqs_own_delays_retries_or_ends_a_message(queues: Queues) -> None:
    with queues.consumed_by(lambda _: None) as consumers:
        worker = consumers._worker
        actors = [queues.broker.get_actor(name) for name in queues.broker.get_declared_actors()]
        # Retries, time limits and age limits are middleware; this one is the worker's own, which starts consumers.
        assert [type(one).__name__ for one in queues.broker.middleware] == ["_WorkerMiddleware"]
        assert set(queues.broker.get_declared_queues()) == set(CONSUMED)
        assert set(queues.broker.get_declared_delay_queues()) == set()
        assert set(worker.consumers) == {QUEUE_REQUESTS}
        assert [consumer.delay_queue.qsize() for consumer in worker.consumers.values()] == [0]
        assert worker.queue_prefetch == 2
        assert [actor.options for actor in actors] == [{}]


def test_a_body_cannot_ask_dramatiq_for_a_delay_or_another_actor(queues: Queues) -> None:
    body = (
        b'{"version":1,"organization":"acme","queue_name":"x","actor_name":"other","args":[1],"kwargs":{"a":1},'
        b'"options":{"eta":99999999999999,"retries":9,"max_retries":9},"message_id":"1","message_timestamp":1}'
    )
    held = Held()
    with consumed(queues, held, concurrency=1):
        queues.send(body)
        assert held.next() == "acme"
    assert queues.unsettled() == 0
    assert queues.buried() == []


# RabbitMQ's consumer_timeout.


@pytest.fixture
def impatient_url() -> Iterator[str]:
    """A node of its own that takes a message back when it was not acknowledged for a second."""
    folder = Path(tempfile.mkdtemp(prefix="kiket-q-", dir="/tmp"))
    (folder / "advanced.config").write_text("[{rabbit, [{consumer_timeout, 1000}, {channel_tick_interval, 500}]}].\n")
    try:
        yield rabbitmq.start(folder)
    finally:
        rabbitmq.stop(folder)
        shutil.rmtree(folder)


def test_a_message_that_comes_again_while_its_run_goes_on_changes_nothing(
    impatient_url: str, sample_database: TestDatabase, ledger: Database, tmp_path: Path
) -> None:
    refreshes = Refreshes.prepare(sample_database.url, ledger, tmp_path)
    worker = RefreshWorker(refreshes.services("tell('started')\nwait_for('go')\nbuild('a')"))
    deliveries: list[RefreshMessage] = []

    def handle(received: RefreshMessage) -> None:
        deliveries.append(received)
        worker.handle(received)

    queues = Queues(impatient_url)
    with queues.consumed_by(handle, concurrency=2):
        run_id = refreshes.request()
        queues.broker.publish(
            RefreshMessage(version=1, organization="acme", kiket_run_id=run_id, reason=Reason.MANUAL), QUEUE_REQUESTS
        )
        refreshes.until_told("started")
        # RabbitMQ closes the channel; the consumer comes back, gets the message again, and a free thread handles it.
        until(lambda: len(deliveries) >= 2, "RabbitMQ to lose its patience")
        until(lambda: ready(impatient_url, QUEUE_REQUESTS) == 0, "the second delivery to be taken")
        run = refreshes.run(run_id)
        assert (run.status, run.attempt) == (Status.RUNNING, 1)
        assert refreshes.lease("analytics_org_acme") is not None
        refreshes.tell("go")
        until(lambda: refreshes.run(run_id).status is Status.SUCCEEDED, "the run to end")
    assert {received.kiket_run_id for received in deliveries} == {run_id}
    assert refreshes.run(run_id).attempt == 1
    assert [usage["model_id"] for usage in refreshes.usage()] == ["model.fake.a"]
    assert len(runs.list_newest(ledger, limit=9)) == 1
    assert queues.unsettled() == 0
    assert ready(impatient_url, QUEUE_DEAD) == 0
    queues.broker.close()


def test_a_request_that_comes_again_while_its_run_goes_on_is_one_more_run_at_most(
    queues: Queues, sample_database: TestDatabase, ledger: Database, tmp_path: Path
) -> None:
    """A foreign message names no run: without a key, its second delivery asks for another refresh."""
    refreshes = Refreshes.prepare(sample_database.url, ledger, tmp_path)
    worker = RefreshWorker(refreshes.services("tell('started')\nwait_for('go')\nbuild('a')"))
    keyed = RefreshMessage(version=1, organization="acme", idempotency_key="once")
    with queues.consumed_by(worker.handle, concurrency=2):
        queues.send(keyed.to_bytes())
        refreshes.until_told("started")
        for _ in range(3):
            queues.send(keyed.to_bytes())
        until_waiting(queues, 0)
        assert len(runs.list_newest(ledger, limit=9)) == 1
        for _ in range(3):
            queues.send(message().to_bytes())
        until(lambda: len(runs.list_newest(ledger, limit=9)) == 2, "the others to become one more run")
        until_waiting(queues, 0)
        refreshes.tell("go")
        until(lambda: refreshes.published, "the one that waits to be published")
        worker.handle(message().model_copy(update={"kiket_run_id": refreshes.published[0].run_id}))
    assert [run.status for run in runs.list_newest(ledger, limit=9)] == [Status.SUCCEEDED] * 2
    assert queues.unsettled() == 0
