"""The progress of runs as server-sent events: real runs of a stand-in dbt, watched over HTTP."""

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from kiket_worker.console.api import events as console_events
from kiket_worker.ledger import runs, tokens
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.runs import Request
from tests.support.console import API, Console, Served
from tests.support.dbt_scripts import FAILING, IN_STEPS, until
from tests.support.refreshes import Refreshes


class Stream:
    """Events as they come, read in a thread."""

    def __init__(self, response: httpx.Response) -> None:
        self.seen: list[dict[str, Any]] = []
        self.comments: list[str] = []
        self.has_ended = threading.Event()
        self._new: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, args=(response,), daemon=True).start()

    def _read(self, response: httpx.Response) -> None:
        event: dict[str, Any] = {}
        try:
            for line in response.iter_lines():
                if line.startswith(":"):
                    self.comments.append(line)
                elif line:
                    name, _, value = line.partition(": ")
                    event[name] = json.loads(value) if name == "data" else value
                elif "event" in event:
                    self.seen.append(event)
                    self._new.put(event)
                    event = {}
        except httpx.HTTPError:
            pass
        self.has_ended.set()

    def until(self, name: str, **fields: object) -> dict[str, Any]:
        """The next event of the name with these fields in its data."""
        while True:
            event = self._new.get(timeout=20)
            if event["event"] == name and fields.items() <= event["data"].items():
                return event

    @property
    def last_id(self) -> str:
        return [event["id"] for event in self.seen if "id" in event][-1]


@contextmanager
def watching(client: httpx.Client, run_id: UUID, last_id: str | None = None) -> Iterator[Stream]:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    with client.stream("GET", f"{API}/runs/{run_id}/events", headers=headers, timeout=30) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        yield Stream(response)


@pytest.fixture
def refreshes(sample_database: Any, ledger: Database, tmp_path: Path) -> Refreshes:
    return Refreshes.prepare(sample_database.url, ledger, tmp_path)


@pytest.fixture
def console(ledger: Database, tmp_path: Path) -> Console:
    return Console(ledger, tmp_path, streams=40)


def test_a_run_is_watched_from_the_queue_to_its_end(refreshes: Refreshes, served: Served) -> None:
    run_id = refreshes.request()
    with served.client(1) as client, watching(client, run_id) as stream:
        stream.until("run", status="queued")
        going = refreshes.start(run_id, refreshes.services(IN_STEPS))
        assert stream.until("model", model_id="model.fake.a", status="running")["data"]["started_at"]
        refreshes.tell("go_on")
        stream.until("model", model_id="model.fake.a", status="success", duration_seconds=0.25)
        stream.until("model", model_id="model.fake.b", status="running")
        refreshes.tell("go_on_again")
        stream.until("run", status="succeeded")
        assert stream.until("end")["data"] == {"status": "succeeded"}
        assert stream.has_ended.wait(10)
        going.wait()
    # No state is told twice.
    told = [(event["event"], json.dumps(event["data"], sort_keys=True)) for event in stream.seen]
    assert len(told) == len(set(told))


def test_a_failed_run_ends_its_stream_with_the_reason(refreshes: Refreshes, served: Served) -> None:
    run_id = refreshes.request()
    with served.client() as client, watching(client, run_id) as stream:
        refreshes.start(run_id, refreshes.services(FAILING)).wait()
        assert stream.until("run", status="failed")["data"]["error"]["kind"] == "model_failed"
        assert stream.until("end")["data"] == {"status": "failed"}


def test_who_comes_back_is_told_what_is_new_and_nothing_else(refreshes: Refreshes, served: Served) -> None:
    run_id = refreshes.request()
    going = None
    with served.client() as client:
        with watching(client, run_id) as stream:
            stream.until("run", status="queued")
            going = refreshes.start(run_id, refreshes.services(IN_STEPS))
            stream.until("model", model_id="model.fake.a", status="running")
        last_id = stream.last_id
        # Nothing has changed: the first that is told is what happens next.
        with watching(client, run_id, last_id) as stream:
            refreshes.tell("go_on")
            first = stream.until("model")["data"]
            assert (first["model_id"], first["status"]) == ("model.fake.a", "success")
            stream.until("model", model_id="model.fake.b", status="running")
        # An id of long ago, or of nobody: all of it, as it stands.
        with watching(client, run_id, last_id) as stream:
            stream.until("run", status="running")
            stream.until("model", model_id="model.fake.a", status="success")
        refreshes.tell("go_on_again")
        going.wait()
        with watching(client, run_id) as stream:
            stream.until("end")
            assert stream.has_ended.wait(10)
        # A browser comes back after the end, and stops when it is told that there is nothing (204).
        path = f"{API}/runs/{run_id}/events"
        assert client.get(path, headers={"Last-Event-ID": stream.last_id}).status_code == 204
        assert client.get(path, headers={"Last-Event-ID": "0" * 32}).status_code == 200


def test_streams_are_bounded_for_all_and_for_one_token(
    ledger: Database, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_events, "_HEARTBEAT_SECONDS", 0.1)  # By which it is seen that somebody has gone.
    with console.serving(streams=4) as served:
        bounded(ledger, served)


def bounded(ledger: Database, served: Served) -> None:
    run_id = runs.request(ledger, Request(1, "acme")).run_id
    path = f"{API}/runs/{run_id}/events"
    clients = [served.client() for _ in range(5)]
    with watching(clients[0], run_id) as first:
        first.until("run")
        answer = clients[0].get(path)
        assert answer.status_code == 503
        assert answer.json()["kind"] == "too_many_streams"
        assert answer.headers["retry-after"]
        with (
            watching(clients[1], run_id) as second,
            watching(clients[2], run_id) as third,
            watching(clients[3], run_id) as fourth,
        ):
            for stream in (second, third, fourth):
                stream.until("run")
            assert clients[4].get(path).status_code == 503

    # Who has gone makes room.
    def has_room() -> bool:
        with clients[4].stream("GET", path) as response:
            return response.status_code == 200

    until(has_room, "room for a stream")
    for client in clients:
        client.close()


def test_a_stream_says_that_it_lives_and_ends_with_its_token(
    ledger: Database, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_events, "_HEARTBEAT_SECONDS", 0.1)
    run_id = runs.request(ledger, Request(1, "acme")).run_id
    with console.serving() as served, served.client(1) as client, watching(client, run_id) as stream:
        stream.until("run", status="queued")
        until(lambda: len(stream.comments) > 1, "heartbeats")
        tokens.revoke(ledger, tokens.newest(ledger)[0].token_id)
        assert stream.has_ended.wait(10)
    assert [event["event"] for event in stream.seen] == ["run"]


def test_many_watchers_are_one_question(ledger: Database, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    watched = runs.watched

    def counted(database: Database, ids: list[UUID]) -> Any:
        asked.append(len(ids))
        return watched(database, ids)

    monkeypatch.setattr("kiket_worker.console.watching.runs.watched", counted)
    ids = [runs.request(ledger, Request(number, slug)).run_id for number, slug in ((1, "acme"), (2, "blue-harbor"))]
    with console.serving(streams=40) as served:
        clients = [served.client() for _ in range(8)]
        streams = [watching(client, ids[number % 2]) for number, client in enumerate(clients)]
        opened = [stream.__enter__() for stream in streams]
        for stream in opened:
            stream.until("run")
        asked.clear()
        until(lambda: len(asked) >= 3, "three looks")
        assert set(asked) == {2}
        for stream in streams:
            stream.__exit__(None, None, None)
        for client in clients:
            client.close()

    def is_quiet() -> bool:
        asked.clear()
        threading.Event().wait(1.2)
        return not asked

    until(is_quiet, "no more questions")
