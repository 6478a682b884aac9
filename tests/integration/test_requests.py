"""Requests become rows: one run waits for an organisation at most, and a repeated key gives the run it named."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest

from kiket_worker.contract import Reason
from kiket_worker.errors import KiketError, UnknownOrganization, UsageError
from kiket_worker.ledger import attempts, claims, organizations, outbox, runs
from kiket_worker.ledger.claims import Claim
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.outbox import Waiting
from kiket_worker.ledger.runs import Accepted, Request, Status
from kiket_worker.tenants.schema import schema_name

ACME = Request(1, "acme")
HARBOR = Request(2, "blue-harbor")


def take(ledger: Database, run_id: UUID) -> Claim:
    taken = claims.claim(
        ledger, run_id, worker="worker", ttl_seconds=60, schema_name=schema_name, end_sessions=lambda *_: 0
    )
    assert isinstance(taken, Claim)
    return taken


def at_once(count: int, call: Callable[[int], Accepted]) -> list[Accepted]:
    together = threading.Barrier(count)

    def run(number: int) -> Accepted:
        together.wait(30)
        return call(number)

    with ThreadPoolExecutor(count) as pool:
        return [future.result(60) for future in [pool.submit(run, number) for number in range(count)]]


def run_count(database: Any) -> int:
    return int(database.rows("select count(*) as runs from kiket_analytics.runs")[0]["runs"])


def test_a_request_becomes_a_queued_run_with_all_that_was_asked(ledger: Database) -> None:
    wanted = Request(
        1,
        "acme",
        reason=Reason.SYNC,
        requested_by="user:42",
        forced=True,
        full_refresh=True,
        docs=True,
        selection=["b", "a"],
    )
    accepted = runs.request(ledger, wanted)
    assert accepted.is_new
    run = runs.get(ledger, accepted.run_id)
    assert (run.status, run.attempt, run.published_at, run.urgency) == (Status.QUEUED, 0, None, None)
    assert (run.organization_id, run.organization_slug, run.reason) == (1, "acme", Reason.SYNC)
    assert (run.requested_by, run.forced, run.full_refresh, run.docs) == ("user:42", True, True, True)
    assert run.selection == ["b", "a"]


@pytest.mark.parametrize("flag", ["forced", "full_refresh", "docs"])
def test_a_request_joins_the_run_that_waits_and_only_widens_it(ledger: Database, flag: str) -> None:
    for first, second in ((False, True), (True, False)):
        accepted = runs.request(ledger, replace(ACME, **{flag: first}))
        joined = runs.request(ledger, replace(ACME, **{flag: second}))
        assert joined == Accepted(accepted.run_id, is_new=False)
        assert getattr(runs.get(ledger, accepted.run_id), flag) is True
        runs.cancel(ledger, accepted.run_id)


def test_neither_flag_comes_from_nowhere(ledger: Database) -> None:
    accepted = runs.request(ledger, ACME)
    runs.request(ledger, ACME)
    run = runs.get(ledger, accepted.run_id)
    assert (run.forced, run.full_refresh, run.docs, run.selection) == (False, False, False, None)


def test_selections_are_united(ledger: Database) -> None:
    accepted = runs.request(ledger, replace(ACME, selection=["b", "c"]))
    runs.request(ledger, replace(ACME, selection=["a", "b"]))
    assert runs.get(ledger, accepted.run_id).selection == ["a", "b", "c"]


def test_no_selection_means_every_model_whenever_it_comes(ledger: Database) -> None:
    for order in permutations([["a"], None, ["b"]]):
        accepted = [runs.request(ledger, replace(ACME, selection=selection)) for selection in order]
        assert runs.get(ledger, accepted[0].run_id).selection is None
        runs.cancel(ledger, accepted[0].run_id)


def test_who_asked_first_is_kept(ledger: Database) -> None:
    accepted = runs.request(ledger, ACME)
    runs.request(ledger, replace(ACME, requested_by="user:1"))
    runs.request(ledger, replace(ACME, requested_by="user:2"))
    assert runs.get(ledger, accepted.run_id).requested_by == "user:1"


def test_a_run_belongs_to_the_trace_of_who_asked_first_with_one(ledger: Database) -> None:
    traces = [f"00-{digit * 32}-00f067aa0ba902b7-01" for digit in "ab"]
    accepted = runs.request(ledger, ACME)
    for trace in traces:
        runs.request(ledger, replace(ACME, traceparent=trace))
    assert runs.get(ledger, accepted.run_id).traceparent == traces[0]


def test_a_request_that_joins_a_scheduled_run_does_not_wait_behind_the_schedule(
    ledger: Database, sample_database: Any
) -> None:
    (scheduled,) = [run for run in outbox.queue_due(ledger, _now(sample_database)) if run.organization_slug == "acme"]
    joined = runs.request(ledger, replace(ACME, requested_by="user:1"))
    assert joined == Accepted(scheduled.run_id, is_new=False)
    run = runs.get(ledger, scheduled.run_id)
    assert (run.reason, run.urgency) == (Reason.MANUAL, None)
    published: list[Waiting] = []
    outbox.publish_waiting(ledger, published.append, republish_after_seconds=600)
    assert published[0] == Waiting(scheduled.run_id, "acme", Reason.MANUAL)
    assert {other.reason for other in published[1:]} == {Reason.SCHEDULED}


def test_the_reason_of_a_request_is_kept_by_those_that_join_it(ledger: Database) -> None:
    accepted = runs.request(ledger, replace(ACME, reason=Reason.SYNC))
    for reason in Reason:
        runs.request(ledger, replace(ACME, reason=reason))
    assert runs.get(ledger, accepted.run_id).reason is Reason.SYNC


def test_organisations_do_not_join_each_other(ledger: Database) -> None:
    assert runs.request(ledger, ACME).is_new
    assert runs.request(ledger, HARBOR).is_new


def test_requests_during_an_executing_run_queue_exactly_one_more(ledger: Database, sample_database: Any) -> None:
    first = runs.request(ledger, ACME)
    take(ledger, first.run_id)
    answers = at_once(6, lambda _: runs.request(ledger, ACME))
    assert sum(answer.is_new for answer in answers) == 1
    (following,) = {answer.run_id for answer in answers}
    assert following != first.run_id
    assert runs.get(ledger, following).status is Status.QUEUED
    assert run_count(sample_database) == 2


def test_requests_at_the_same_moment_give_one_run(ledger: Database, sample_database: Any) -> None:
    answers = at_once(8, lambda number: runs.request(ledger, replace(ACME, selection=[f"m{number}"])))
    assert sum(answer.is_new for answer in answers) == 1
    (run_id,) = {answer.run_id for answer in answers}
    assert run_count(sample_database) == 1
    assert runs.get(ledger, run_id).selection == [f"m{number}" for number in range(8)]


def test_a_request_that_meets_the_claim_of_the_run_it_would_join_waits_for_a_run_of_its_own(
    ledger: Database, sample_database: Any
) -> None:
    first = runs.request(ledger, ACME)
    begun = threading.Event()

    def ask() -> Accepted:
        begun.set()
        return runs.request(ledger, ACME)

    with ThreadPoolExecutor(1) as pool:
        with sample_database.connect() as claiming, claiming.transaction():
            claiming.execute(
                "update kiket_analytics.runs set status = 'running', attempt = 1, lease_epoch = 1, started_at = now()"
                " where run_id = %s",
                [first.run_id],
            )
            asked = pool.submit(ask)
            assert begun.wait(30)
        answer = asked.result(30)
    assert answer.is_new
    assert answer.run_id != first.run_id


@pytest.mark.parametrize("ended", [False, True])
def test_a_repeated_key_gives_the_run_that_it_named(ledger: Database, sample_database: Any, ended: bool) -> None:
    wanted = replace(ACME, idempotency_key="once")
    first = runs.request(ledger, wanted)
    if ended:
        runs.cancel(ledger, first.run_id)
    assert runs.request(ledger, replace(wanted, full_refresh=True)) == Accepted(first.run_id, is_new=False)
    assert run_count(sample_database) == 1
    assert runs.get(ledger, first.run_id).full_refresh is False  # The repetition asked for nothing.


def test_a_key_that_joined_a_run_goes_on_naming_it(ledger: Database) -> None:
    first = runs.request(ledger, ACME)
    assert runs.request(ledger, replace(ACME, idempotency_key="joined")).run_id == first.run_id
    runs.cancel(ledger, first.run_id)
    assert runs.request(ledger, replace(ACME, idempotency_key="joined")) == Accepted(first.run_id, is_new=False)
    assert runs.request(ledger, replace(ACME, idempotency_key="another")).is_new


def test_a_key_used_at_the_same_moment_gives_one_run(ledger: Database, sample_database: Any) -> None:
    for repetition in range(1, 9):
        wanted = replace(ACME, idempotency_key=f"key-{repetition}")
        answers = at_once(8, lambda _, wanted=wanted: runs.request(ledger, wanted))
        (run_id,) = {answer.run_id for answer in answers}
        assert sum(answer.is_new for answer in answers) == 1
        assert run_count(sample_database) == repetition
        assert len(sample_database.rows("select from kiket_analytics.run_requests")) == repetition
        runs.cancel(ledger, run_id)


def test_keys_of_different_organisations_do_not_meet(ledger: Database) -> None:
    answers = [runs.request(ledger, replace(wanted, idempotency_key="same")) for wanted in (ACME, HARBOR)]
    assert all(answer.is_new for answer in answers)
    assert runs.get(ledger, answers[1].run_id).organization_id == 2


def test_the_run_that_waited_is_to_be_published_again_when_the_one_before_it_ends(ledger: Database) -> None:
    taken = take(ledger, runs.request(ledger, ACME).run_id)
    following = runs.request(ledger, ACME).run_id
    elsewhere = runs.request(ledger, HARBOR).run_id
    outbox.publish_waiting(ledger, lambda _: None, republish_after_seconds=600)
    assert runs.get(ledger, following).published_at is not None
    attempts.fail(ledger, taken, KiketError("broken"))
    assert runs.get(ledger, following).published_at is None
    assert runs.get(ledger, elsewhere).published_at is not None
    published: list[Waiting] = []
    outbox.publish_waiting(ledger, published.append, republish_after_seconds=600)
    assert [run.run_id for run in published] == [following]


def _now(database: Any) -> Any:
    return database.rows("select now() as now")[0]["now"]


@pytest.mark.parametrize(
    "odd",
    [
        {"idempotency_key": "k" * 256},
        {"idempotency_key": "a\x00b"},
        {"idempotency_key": "\udcff"},
        {"selection": ["good", "\udcff"]},
        {"selection": ["a\x00b"]},
        {"requested_by": "\udcff"},
    ],
)
def test_a_text_that_the_ledger_cannot_hold_is_wrong_use(
    ledger: Database, sample_database: Any, odd: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        runs.request(ledger, replace(ACME, **odd))
    assert run_count(sample_database) == 0


def test_the_longest_key_is_held(ledger: Database) -> None:
    wanted = replace(ACME, idempotency_key="ä" * 255)
    assert runs.request(ledger, wanted).run_id == runs.request(ledger, wanted).run_id


@pytest.mark.parametrize("slug", ["\udcff", "a\x00b", "acme\udcff"])
def test_a_slug_that_is_no_text_is_an_unknown_organisation(ledger: Database, slug: str) -> None:
    with pytest.raises(UnknownOrganization):
        organizations.find(ledger, slug)
