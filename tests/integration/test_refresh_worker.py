"""The worker around the pipeline: what a message leads to, and when it may be acknowledged."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import pytest

from kiket_worker.contract import RefreshMessage
from kiket_worker.errors import PostgresUnreachable, RabbitmqUnreachable, UnknownOrganization, WorkerStopped
from kiket_worker.ledger import runs
from kiket_worker.ledger.database import Connection, Database
from kiket_worker.ledger.outbox import Waiting
from kiket_worker.ledger.runs import Status
from kiket_worker.refresh import worker as worker_module
from kiket_worker.refresh.worker import RefreshWorker
from kiket_worker.tenants.sessions import application_name
from tests.support.dbt_scripts import processes_of
from tests.support.refreshes import Refreshes, in_background

GOOD = "build('a')"
WAITING = "tell('started')\nwait_for('go')\nbuild('a')"


class AwayForAWhile:
    """The ledger's database, unreachable for the first transactions."""

    def __init__(self, database: Database, failures: int) -> None:
        self._database = database
        self.failures = failures

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        if self.failures:
            self.failures -= 1
            raise PostgresUnreachable("refused")
        with self._database.transaction() as connection:
            yield connection

    def rows(self, query: bytes, parameters: dict[str, Any] | None = None) -> list[Any]:
        with self.transaction() as connection:
            return connection.execute(query, parameters).fetchall()

    def connect(self) -> Connection:
        return self._database.connect()


def message(organization: str = "acme", **fields: Any) -> RefreshMessage:
    return RefreshMessage(version=1, organization=organization, **fields)


def newest(refreshes: Refreshes) -> runs.Run:
    return runs.list_newest(refreshes.ledger, limit=1)[0]


def test_a_message_becomes_a_run_and_is_done_when_it_has_ended(refreshes: Refreshes) -> None:
    RefreshWorker(refreshes.services(GOOD)).handle(message(requested_by="user:42", idempotency_key="once"))
    run = newest(refreshes)
    assert (run.organization_slug, run.status, run.requested_by) == ("acme", Status.SUCCEEDED, "user:42")


def test_a_message_that_comes_twice_leads_to_one_run(refreshes: Refreshes) -> None:
    worker = RefreshWorker(refreshes.services(GOOD))
    for _ in range(2):
        worker.handle(message(idempotency_key="once"))
    assert len(runs.list_newest(refreshes.ledger, limit=9)) == 1
    assert len(refreshes.usage()) == 1


def test_an_unknown_organisation_is_the_publishers_fault(refreshes: Refreshes) -> None:
    with pytest.raises(UnknownOrganization):
        RefreshWorker(refreshes.services(GOOD)).handle(message("nobody"))
    assert runs.list_newest(refreshes.ledger, limit=9) == []


def test_a_run_asked_for_meanwhile_is_published_when_the_first_one_ends(refreshes: Refreshes) -> None:
    worker = RefreshWorker(refreshes.services(WAITING))
    going = in_background(lambda: worker.handle(message()))
    refreshes.until_told("started")
    first = newest(refreshes)
    worker.handle(message())
    second = newest(refreshes)
    assert (second.run_id == first.run_id, second.status) == (False, Status.QUEUED)
    assert refreshes.published == []
    refreshes.tell("go")
    going.wait()
    assert refreshes.published == [Waiting(second.run_id, "acme", second.reason)]
    worker.handle(message(run_id=second.run_id))
    assert refreshes.run(second.run_id).status is Status.SUCCEEDED


def test_a_follow_up_that_cannot_be_published_is_left_to_the_ticker(refreshes: Refreshes) -> None:
    def publish(_: Waiting) -> None:
        raise RabbitmqUnreachable("refused")

    worker = RefreshWorker(replace(refreshes.services(WAITING), publish=publish))
    going = in_background(lambda: worker.handle(message()))
    refreshes.until_told("started")
    worker.handle(message())
    refreshes.tell("go")
    going.wait()
    waiting = newest(refreshes)
    assert (waiting.status, waiting.published_at) == (Status.QUEUED, None)
    assert refreshes.events()[-1]["error_kind"] == "rabbitmq_unreachable"


def test_a_message_waits_while_postgres_is_away(refreshes: Refreshes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "_PATIENCE_SECONDS", 0.01)
    away = AwayForAWhile(refreshes.ledger, failures=2)
    RefreshWorker(replace(refreshes.services(GOOD), database=cast(Database, away))).handle(message())
    assert newest(refreshes).status is Status.SUCCEEDED
    told = refreshes.events()
    assert [event["event"] for event in told[:3]] == ["worker.failed", "worker.failed", "run.queued"]
    assert {event["error_kind"] for event in told[:2]} == {"postgres_unreachable"}


def test_a_worker_that_ends_gives_a_waiting_message_back(refreshes: Refreshes) -> None:
    away = AwayForAWhile(refreshes.ledger, failures=10**9)
    worker = RefreshWorker(replace(refreshes.services(GOOD), database=cast(Database, away)))
    going = in_background(lambda: worker.handle(message()))
    worker.finish()
    with pytest.raises(WorkerStopped):
        going.wait()
    assert runs.list_newest(refreshes.ledger, limit=9) == []


def test_a_worker_that_finishes_ends_what_it_has_begun_and_begins_nothing(refreshes: Refreshes) -> None:
    worker = RefreshWorker(refreshes.services(WAITING))
    going = in_background(lambda: worker.handle(message()))
    refreshes.until_told("started")
    worker.finish()
    with pytest.raises(WorkerStopped):
        worker.handle(message("north_star"))
    refreshes.tell("go")
    going.wait()
    assert [run.status for run in runs.list_newest(refreshes.ledger, limit=9)] == [Status.SUCCEEDED]


def test_a_worker_that_is_stopped_kills_its_dbt_and_hands_the_run_back(refreshes: Refreshes) -> None:
    worker = RefreshWorker(refreshes.services("tell('started')\nhang()"))
    going = in_background(lambda: worker.handle(message()))
    refreshes.until_told("started")
    run_id = newest(refreshes).run_id
    assert len(processes_of(application_name(run_id))) == 2, "dbt and its guard"
    worker.stop()
    assert going.wait() is None
    assert processes_of(application_name(run_id)) == []
    assert refreshes.run(run_id).status is Status.RUNNING
    assert (refreshes.lease() or ["held"])[0] is None


def test_a_message_of_a_run_that_another_worker_lost_to_a_third_is_done_here(refreshes: Refreshes) -> None:
    worker = RefreshWorker(refreshes.services("tell('started')\nwait_for('go')\nbuild('a')"))
    going = in_background(lambda: worker.handle(message()))
    refreshes.until_told("started")
    refreshes.execute("update kiket_analytics.leases set epoch = epoch + 1, worker = 'thief'")
    refreshes.execute("update kiket_analytics.runs set lease_epoch = lease_epoch + 1, worker = 'thief'")
    refreshes.tell("go")
    assert going.wait() is None
    assert newest(refreshes).status is Status.RUNNING
    assert refreshes.usage() == []
    assert refreshes.published == []
