"""Claims: one worker executes a run, ends it in one transaction, and writes nothing once it was taken over."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from kiket_worker.errors import KiketError, LeaseLost, RunNotCancellable, SessionsNotEnded, UnknownRun
from kiket_worker.ledger import attempts, claims, leases, organizations, outbox, runs
from kiket_worker.ledger.claims import Claim, NotClaimed
from kiket_worker.ledger.database import Connection, Database
from kiket_worker.ledger.runs import Request, RunId, RunModel, Status
from kiket_worker.tenants.schema import schema_name

ACME = Request(1, "acme")
MODEL = RunModel("model.kiket.fct", "success", 1.5, 10)
SHA256 = "a" * 64


@dataclass
class Ending:
    """Stands in for the ending of sessions: remembers for which runs it was asked, and in which state they were."""

    asked: list[tuple[RunId, str, str | None]] = field(default_factory=list)

    def __call__(self, connection: Connection, run_id: RunId, schema: str) -> int:
        row = connection.execute(
            "select runs.lease_epoch, leases.epoch, leases.worker from kiket_analytics.runs"
            " join kiket_analytics.leases using (run_id) where run_id = %s",
            [run_id],
        ).fetchone()
        assert row is not None
        assert row["lease_epoch"] == row["epoch"]
        assert schema.startswith("analytics_org_")
        self.asked.append((run_id, row["epoch"], row["worker"]))
        return 2


def never(_: Connection, run_id: RunId, _schema: str) -> int:
    raise AssertionError(f"the sessions of run {run_id} were to be ended")


def claim(
    ledger: Database,
    run_id: UUID,
    worker: str = "worker-1",
    end_sessions: Callable[[Connection, RunId, str], int] = never,
) -> Claim | NotClaimed:
    return claims.claim(
        ledger, run_id, worker=worker, ttl_seconds=60, schema_name=schema_name, end_sessions=end_sessions
    )


def take(ledger: Database, wanted: Request = ACME) -> Claim:
    taken = claim(ledger, runs.request(ledger, wanted).run_id)
    assert isinstance(taken, Claim)
    return taken


def expire(database: Any, schema: str = "analytics_org_acme") -> None:
    database.execute(
        "update kiket_analytics.leases set expires_at = now() - interval '1 second' where schema_name = %s", schema
    )


def take_over(ledger: Database, database: Any, taken: Claim) -> Claim:
    expire(database)
    later = claim(ledger, taken.run.run_id, "worker-2", lambda *_: 0)
    assert isinstance(later, Claim)
    return later


def to_archived(ledger: Database, taken: Claim) -> None:
    attempts.begin_models(ledger, taken)
    attempts.record_model(ledger, taken, MODEL)
    attempts.mark_built(ledger, taken)
    attempts.mark_archived(ledger, taken, location="file:///acme", index_sha256=SHA256)


def lease_of(database: Any, schema: str = "analytics_org_acme") -> dict[str, Any]:
    (row,) = database.rows("select * from kiket_analytics.leases where schema_name = %s", schema)
    return dict(row)


def last_run_at(database: Any, organization_id: int = 1) -> Any:
    (row,) = database.rows(
        "select last_run_at from kiket_analytics.analytics_settings where organization_id = %s", organization_id
    )
    return row["last_run_at"]


def everything(database: Any) -> dict[str, list[Any]]:
    """All that the ledger holds."""
    tables = ("runs", "run_models", "run_requests", "leases", "usage_events", "analytics_settings")
    return {
        table: database.rows(f"select to_jsonb(t)::text as row from kiket_analytics.{table} as t order by 1")
        for table in tables
    }


def test_a_run_is_taken_with_its_schemas_lease(ledger: Database, sample_database: Any) -> None:
    run_id = runs.request(ledger, ACME).run_id
    taken = claim(ledger, run_id)
    assert isinstance(taken, Claim)
    assert (taken.schema_name, taken.epoch, taken.sessions_ended) == ("analytics_org_acme", 1, None)
    run = runs.get(ledger, run_id)
    assert run == taken.run
    assert (run.status, run.attempt, run.lease_epoch, run.worker) == (Status.RUNNING, 1, 1, "worker-1")
    lease = lease_of(sample_database)
    assert (lease["run_id"], lease["worker"], lease["organization_id"]) == (run_id, "worker-1", 1)
    (row,) = sample_database.rows("select expires_at - acquired_at as ttl from kiket_analytics.leases")
    assert 60 <= row["ttl"].total_seconds() < 70


def test_the_whole_way_leaves_usage_the_last_run_and_a_free_lease(ledger: Database, sample_database: Any) -> None:
    taken = take(ledger)
    attempts.begin_models(ledger, taken)
    for model in (RunModel("model.kiket.a", "running", None, None), MODEL, RunModel("model.kiket.a", "success", 2, 3)):
        attempts.record_model(ledger, taken, model)
    assert attempts.mark_built(ledger, taken).status is Status.BUILT
    archived = attempts.mark_archived(ledger, taken, location="file:///acme", index_sha256=SHA256)
    assert (archived.status, archived.artifacts_location) == (Status.ARCHIVED, "file:///acme")
    assert last_run_at(sample_database) is None
    assert sample_database.rows("select from kiket_analytics.usage_events") == []

    run, usage_events = attempts.succeed(ledger, taken)

    assert (run.status, run.billable, usage_events) == (Status.SUCCEEDED, True, 2)
    assert run.finished_at is not None
    assert last_run_at(sample_database) == taken.run.started_at
    events = sample_database.rows(
        "select organization_id, metric, quantity, unit, model_id, metadata->>'duration_seconds' as seconds"
        " from kiket_analytics.usage_events where run_id = %s order by model_id",
        run.run_id,
    )
    shared = {"organization_id": 1, "metric": "analytics_dbt_run", "quantity": 1, "unit": "model_run"}
    assert events == [
        shared | {"model_id": "model.kiket.a", "seconds": "2"},
        shared | {"model_id": "model.kiket.fct", "seconds": "1.5"},
    ]
    lease = lease_of(sample_database)
    assert (lease["epoch"], lease["run_id"], lease["worker"], lease["expires_at"]) == (1, None, None, None)
    assert last_run_at(sample_database, 2) is None
    with pytest.raises(LeaseLost), sample_database.connect() as connection:
        attempts.renew(connection, taken, 60)


def test_the_next_run_of_the_schema_has_the_next_epoch(ledger: Database) -> None:
    first = take(ledger)
    attempts.fail(ledger, first, KiketError("broken"))
    second = take(ledger)
    assert (second.epoch, second.run.attempt, second.sessions_ended) == (2, 1, None)


_FAULT = "create function public.fault() returns trigger language plpgsql as $$ begin raise 'fault'; end $$;"


@pytest.mark.parametrize(
    "trigger",
    [
        "before insert on kiket_analytics.usage_events for each row",
        "after update of last_run_at on kiket_analytics.analytics_settings for each row",
        "after update on kiket_analytics.leases for each row",
    ],
)
def test_a_run_succeeds_with_everything_or_not_at_all(ledger: Database, sample_database: Any, trigger: str) -> None:
    taken = take(ledger)
    to_archived(ledger, taken)
    before = everything(sample_database)
    sample_database.execute(f"{_FAULT} create trigger fault {trigger} execute function public.fault()")
    with pytest.raises(psycopg.errors.RaiseException):
        attempts.succeed(ledger, taken)
    assert everything(sample_database) == before
    sample_database.execute("drop function public.fault cascade")
    assert attempts.succeed(ledger, taken)[1] == 1


def test_success_is_undone_by_a_fault_at_the_very_commit(ledger: Database, sample_database: Any) -> None:
    taken = take(ledger)
    to_archived(ledger, taken)
    before = everything(sample_database)
    sample_database.execute(
        f"{_FAULT} create constraint trigger fault after insert on kiket_analytics.usage_events"
        " deferrable initially deferred for each row execute function public.fault()"
    )
    with pytest.raises(psycopg.errors.RaiseException):
        attempts.succeed(ledger, taken)
    assert everything(sample_database) == before


def test_success_is_seen_by_others_whole_or_not_at_all(ledger: Database, sample_database: Any) -> None:
    taken = take(ledger)
    to_archived(ledger, taken)
    before = everything(sample_database)
    # Whoever succeeds waits for this lock after all else was written, and for as long nobody sees any of it.
    with ThreadPoolExecutor(1) as pool:
        with sample_database.connect() as other, other.transaction():
            other.execute("select from kiket_analytics.leases for update")
            succeeding = pool.submit(attempts.succeed, ledger, taken)
            _until_somebody_waits(sample_database)
            assert everything(sample_database) == before
        assert succeeding.result(30)[1] == 1
    assert everything(sample_database)["usage_events"]


def test_a_failure_counts_as_the_last_run_and_frees_the_lease(ledger: Database, sample_database: Any) -> None:
    taken = take(ledger)
    attempts.record_model(ledger, taken, MODEL)
    run = attempts.fail(ledger, taken, KiketError("nul: \x00"), location="file:///x", index_sha256=SHA256)
    assert (run.status, run.error_kind, run.error_message) == (Status.FAILED, "internal", "nul: �")
    assert (run.artifacts_location, run.artifacts_index_sha256, run.billable) == ("file:///x", SHA256, False)
    assert last_run_at(sample_database) == taken.run.started_at
    assert lease_of(sample_database)["worker"] is None
    assert sample_database.rows("select from kiket_analytics.usage_events") == []


def test_a_failure_without_words_has_its_kind_as_message(ledger: Database) -> None:
    assert attempts.fail(ledger, take(ledger), LeaseLost("")).error_message == "lease_lost"


def test_a_cancelled_run_counts_as_the_last_run_and_frees_the_lease(ledger: Database, sample_database: Any) -> None:
    taken = take(ledger)
    assert attempts.cancelled(ledger, taken).status is Status.CANCELLED
    assert last_run_at(sample_database) == taken.run.started_at
    assert lease_of(sample_database)["worker"] is None


def test_a_models_message_may_hold_what_postgres_text_cannot(ledger: Database) -> None:
    taken = take(ledger)
    attempts.record_model(ledger, taken, RunModel("model.kiket.fct", "error", 1, None, "\x00 é \udcff"))
    assert [model.message for model in runs.models(ledger, taken.run.run_id)] == ["� é ?"]


def test_a_run_waits_while_another_of_its_organisation_is_executed(ledger: Database, sample_database: Any) -> None:
    first = take(ledger)
    second = runs.request(ledger, ACME).run_id
    before = everything(sample_database)
    assert claim(ledger, second, "worker-2") == NotClaimed(Status.QUEUED)
    assert everything(sample_database) == before
    expire(sample_database)  # A dead worker's run is taken over, not passed by.
    assert claim(ledger, second, "worker-2") == NotClaimed(Status.QUEUED)
    attempts.fail(ledger, take_over(ledger, sample_database, first), KiketError("broken"))
    assert isinstance(claim(ledger, second, "worker-2"), Claim)


def test_an_executing_run_is_not_taken_from_a_live_worker(ledger: Database, sample_database: Any) -> None:
    taken = take(ledger)
    before = everything(sample_database)
    assert claim(ledger, taken.run.run_id, "worker-2") == NotClaimed(Status.RUNNING)
    assert everything(sample_database) == before


def test_what_has_ended_or_never_was_is_not_claimed(ledger: Database) -> None:
    assert claim(ledger, uuid4()) == NotClaimed(None)
    for status, end in (
        (Status.FAILED, lambda taken: attempts.fail(ledger, taken, KiketError("broken"))),
        (Status.CANCELLED, lambda taken: attempts.cancelled(ledger, taken)),
    ):
        taken = take(ledger)
        end(taken)
        assert claim(ledger, taken.run.run_id) == NotClaimed(status)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("delete from public.organizations where id = 4", "organization_gone"),
        ("update public.organizations set slug = 'renamed' where id = 4", "organization_gone"),
        (
            "update kiket_analytics.analytics_settings set enabled = false where organization_id = 4",
            "organization_disabled",
        ),
        ("delete from kiket_analytics.analytics_settings where organization_id = 4", "organization_disabled"),
        (
            "update kiket_analytics.runs set organization_slug = 'Quiet;--'",
            "organization_slug_invalid",
        ),
    ],
)
def test_a_run_whose_organisation_is_not_to_be_refreshed_any_more_is_skipped(
    ledger: Database, sample_database: Any, change: str, kind: str
) -> None:
    run_id = runs.request(ledger, Request(4, "quiet-orchard")).run_id
    sample_database.execute("delete from public.projects where organization_id = 4")
    sample_database.execute("delete from public.users where organization_id = 4")
    sample_database.execute(change)
    answer = claim(ledger, run_id)
    assert isinstance(answer, NotClaimed)
    assert answer.status is Status.SKIPPED
    assert answer.skipped_for is not None
    assert answer.skipped_for.kind == kind
    run = runs.get(ledger, run_id)
    assert (run.status, run.error_kind, run.attempt) == (Status.SKIPPED, kind, 0)
    assert run.error_message == str(answer.skipped_for)
    assert sample_database.rows("select from kiket_analytics.leases") == []


@pytest.mark.parametrize("settings", ["paused", "none"])
def test_a_forced_run_of_an_organisation_that_is_not_enabled_is_claimed(
    ledger: Database, sample_database: Any, settings: str
) -> None:
    if settings == "paused":
        organizations.save_settings(ledger, 1, enabled=False)
    else:
        sample_database.execute("delete from kiket_analytics.analytics_settings")
    taken = take(ledger, Request(1, "acme", forced=True))
    assert taken.run.status is Status.RUNNING
    attempts.fail(ledger, taken, KiketError("broken"))


def test_an_expired_lease_is_taken_over_after_the_older_sessions_were_ended(
    ledger: Database, sample_database: Any
) -> None:
    old = take(ledger)
    expire(sample_database)
    ending = Ending()
    new = claim(ledger, old.run.run_id, "worker-2", ending)
    assert isinstance(new, Claim)
    # Asked while the ledger still said that the lease is the older attempt's.
    assert ending.asked == [(old.run.run_id, 1, "worker-1")]
    assert (new.sessions_ended, new.epoch, new.run.attempt, new.run.status) == (2, 2, 2, Status.RUNNING)
    assert (new.run.worker, new.run.lease_epoch) == ("worker-2", 2)
    assert new.run.started_at is not None
    assert old.run.started_at is not None
    assert new.run.started_at > old.run.started_at
    lease = lease_of(sample_database)
    assert (lease["epoch"], lease["worker"], lease["run_id"]) == (2, "worker-2", old.run.run_id)


def test_nothing_is_taken_over_while_older_sessions_go_on(ledger: Database, sample_database: Any) -> None:
    old = take(ledger)
    expire(sample_database)
    before = everything(sample_database)

    def refuse(_: Connection, run_id: RunId, _schema: str) -> int:
        raise SessionsNotEnded(f"sessions of {run_id} go on")

    with pytest.raises(SessionsNotEnded):
        claim(ledger, old.run.run_id, "worker-2", refuse)
    assert everything(sample_database) == before


def test_a_lease_that_took_long_to_get_lasts_its_whole_time(ledger: Database, sample_database: Any) -> None:
    old = take(ledger)
    expire(sample_database)

    def slowly(connection: Connection, *_: object) -> int:
        connection.execute("select pg_sleep(1.5)")
        return 0

    taken = claims.claim(
        ledger, old.run.run_id, worker="worker-2", ttl_seconds=1, schema_name=schema_name, end_sessions=slowly
    )
    assert isinstance(taken, Claim)
    (row,) = sample_database.rows(
        "select expires_at > %s + interval '2.5 seconds' as whole from kiket_analytics.leases", taken.run.started_at
    )
    assert row["whole"]


def _renew(ledger: Database, taken: Claim) -> None:
    with ledger.transaction() as connection:
        attempts.renew(connection, taken, 60)


LATE_WRITES: dict[str, Callable[[Database, Claim], object]] = {
    "begin_models": attempts.begin_models,
    "record_model": lambda ledger, taken: attempts.record_model(ledger, taken, RunModel("model.late", "error", 9, 9)),
    "mark_built": attempts.mark_built,
    "mark_archived": lambda ledger, taken: attempts.mark_archived(ledger, taken, location="x", index_sha256=SHA256),
    "succeed": attempts.succeed,
    "fail": lambda ledger, taken: attempts.fail(ledger, taken, KiketError("late")),
    "cancelled": attempts.cancelled,
    "renew": _renew,
}


@pytest.mark.parametrize("step", [Status.RUNNING, Status.BUILT, Status.ARCHIVED, Status.SUCCEEDED])
def test_a_worker_that_was_taken_over_writes_nothing(ledger: Database, sample_database: Any, step: Status) -> None:
    old = take(ledger)
    new = take_over(ledger, sample_database, old)
    attempts.record_model(ledger, new, MODEL)
    if step is not Status.RUNNING:
        attempts.mark_built(ledger, new)
    if step in {Status.ARCHIVED, Status.SUCCEEDED}:
        attempts.mark_archived(ledger, new, location="file:///new", index_sha256=SHA256)
    if step is Status.SUCCEEDED:
        attempts.succeed(ledger, new)
    before = everything(sample_database)
    for name, write in LATE_WRITES.items():
        with pytest.raises(LeaseLost):
            write(ledger, old)
        assert everything(sample_database) == before, name


def test_the_release_of_a_lost_lease_leaves_the_new_holder_alone(ledger: Database, sample_database: Any) -> None:
    first = leases.acquire_schema(ledger, "analytics_shared", worker="worker-1", ttl_seconds=60)
    assert first == 1
    assert leases.acquire_schema(ledger, "analytics_shared", worker="worker-2", ttl_seconds=60) is None
    expire(sample_database, "analytics_shared")
    assert leases.acquire_schema(ledger, "analytics_shared", worker="worker-2", ttl_seconds=60) == 2
    leases.release_schema(ledger, "analytics_shared", first)
    assert lease_of(sample_database, "analytics_shared")["worker"] == "worker-2"
    leases.release_schema(ledger, "analytics_shared", 2)
    assert lease_of(sample_database, "analytics_shared")["worker"] is None
    assert leases.acquire_schema(ledger, "analytics_shared", worker="worker-1", ttl_seconds=60) == 3


def test_an_attempt_begins_without_the_models_of_the_crashed_one(ledger: Database, sample_database: Any) -> None:
    old = take(ledger)
    attempts.record_model(ledger, old, RunModel("model.kiket.removed", "running", None, None))
    new = take_over(ledger, sample_database, old)
    attempts.begin_models(ledger, new)
    assert runs.models(ledger, old.run.run_id) == []


def test_a_run_that_crashed_when_built_is_built_again(ledger: Database, sample_database: Any) -> None:
    old = take(ledger)
    attempts.mark_built(ledger, old)
    assert take_over(ledger, sample_database, old).run.status is Status.RUNNING


def test_an_archived_run_is_resumed_where_it_was(ledger: Database, sample_database: Any) -> None:
    old = take(ledger)
    to_archived(ledger, old)
    new = take_over(ledger, sample_database, old)
    assert (new.run.status, new.run.attempt, new.epoch) == (Status.ARCHIVED, 2, 2)
    assert new.run.artifacts_location == "file:///acme"
    run, usage_events = attempts.succeed(ledger, new)
    assert (run.status, usage_events) == (Status.SUCCEEDED, 1)
    assert last_run_at(sample_database) == new.run.started_at


def test_of_two_workers_that_claim_at_once_exactly_one_wins(ledger: Database) -> None:
    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            run_id = runs.request(ledger, ACME).run_id
            together = threading.Barrier(2)

            def compete(worker: str, run_id: UUID = run_id, together: threading.Barrier = together) -> Any:
                together.wait(30)
                return claim(ledger, run_id, worker)

            answers = [future.result(30) for future in [pool.submit(compete, f"worker-{n}") for n in (1, 2)]]
            (winner,) = [answer for answer in answers if isinstance(answer, Claim)]
            assert NotClaimed(Status.RUNNING) in answers
            assert runs.get(ledger, run_id).attempt == 1
            attempts.fail(ledger, winner, KiketError("next"))


def test_of_two_workers_that_take_over_at_once_exactly_one_wins(ledger: Database, sample_database: Any) -> None:
    run_id = take(ledger).run.run_id
    with ThreadPoolExecutor(2) as pool:
        for attempt in range(2, 22):
            expire(sample_database)
            together = threading.Barrier(2)

            def compete(worker: str, together: threading.Barrier = together) -> Any:
                together.wait(30)
                return claim(ledger, run_id, worker, lambda *_: 0)

            answers = [future.result(30) for future in [pool.submit(compete, f"worker-{n}") for n in (1, 2)]]
            assert sum(isinstance(answer, Claim) for answer in answers) == 1
            run = runs.get(ledger, run_id)
            assert (run.attempt, run.lease_epoch) == (attempt, attempt)


@pytest.mark.parametrize("order", [("a-b", "a_b"), ("a_b", "a-b")])
@pytest.mark.parametrize("first_has_ended", [True, False])
def test_of_two_slugs_that_give_one_schema_the_second_is_skipped(
    ledger: Database, sample_database: Any, order: tuple[str, str], first_has_ended: bool
) -> None:
    wanted = [Request(_organization(sample_database, number, slug), slug) for number, slug in enumerate(order, 50)]
    first = take(ledger, wanted[0])
    if first_has_ended:
        attempts.fail(ledger, first, KiketError("broken"))
    answer = claim(ledger, runs.request(ledger, wanted[1]).run_id, "worker-2")
    assert isinstance(answer, NotClaimed)
    assert answer.skipped_for is not None
    assert (answer.status, answer.skipped_for.kind) == (Status.SKIPPED, "organization_schema_taken")
    # The run is its organisation's to read, which learns of no other.
    (ended,) = [run for run in runs.list_newest(ledger, limit=2) if run.status is Status.SKIPPED]
    assert (ended.error_kind, "50" in str(ended.error_message)) == ("organization_slug_invalid", False)
    lease = lease_of(sample_database, "analytics_org_a_b")
    assert (lease["organization_id"], lease["epoch"]) == (50, 1)


def test_of_two_slugs_that_give_one_schema_one_is_skipped_when_both_come_at_once(
    ledger: Database, sample_database: Any
) -> None:
    for number in range(100, 120, 2):
        slugs = (f"a-{number}", f"a_{number}")
        ids = [
            runs.request(ledger, Request(_organization(sample_database, number + place, slug), slug)).run_id
            for place, slug in enumerate(slugs)
        ]
        together = threading.Barrier(2)

        def compete(run_id: UUID, together: threading.Barrier = together) -> Any:
            together.wait(30)
            return claim(ledger, run_id)

        with ThreadPoolExecutor(2) as pool:
            answers = [future.result(30) for future in [pool.submit(compete, run_id) for run_id in ids]]
        assert sum(isinstance(answer, Claim) for answer in answers) == 1
        assert sorted(str(runs.get(ledger, run_id).status) for run_id in ids) == ["running", "skipped"]


def test_a_lease_is_prolonged_and_tells_whether_the_runs_end_was_asked_for(
    ledger: Database, sample_database: Any
) -> None:
    taken = take(ledger)
    expire(sample_database)
    with sample_database.connect() as connection:
        assert attempts.renew(connection, taken, 60) is False
        assert claim(ledger, taken.run.run_id, "worker-2") == NotClaimed(Status.RUNNING)  # Not expired any more.
        assert runs.cancel(ledger, taken.run.run_id) is Status.RUNNING
        assert attempts.renew(connection, taken, 60) is True
    assert runs.get(ledger, taken.run.run_id).status is Status.RUNNING


def test_a_waiting_run_is_cancelled_at_once(ledger: Database, sample_database: Any) -> None:
    run_id = runs.request(ledger, ACME).run_id
    assert runs.cancel(ledger, run_id) is Status.CANCELLED
    run = runs.get(ledger, run_id)
    assert run.status is Status.CANCELLED
    assert run.finished_at is not None
    assert claim(ledger, run_id) == NotClaimed(Status.CANCELLED)
    published: list[object] = []
    outbox.publish_waiting(ledger, published.append, republish_after_seconds=600)
    assert published == []


def test_an_ended_or_unknown_run_cannot_be_cancelled(ledger: Database) -> None:
    taken = take(ledger)
    attempts.fail(ledger, taken, KiketError("broken"))
    with pytest.raises(RunNotCancellable, match="it is failed"):
        runs.cancel(ledger, taken.run.run_id)
    with pytest.raises(UnknownRun):
        runs.cancel(ledger, uuid4())


def _organization(database: Any, organization_id: int, slug: str) -> int:
    database.execute(
        "insert into public.organizations (id, slug, name, plan, created_at) values (%s, %s, %s, 'team', now())",
        organization_id,
        slug,
        slug,
    )
    database.execute(
        "insert into kiket_analytics.analytics_settings (organization_id, enabled) values (%s, true)", organization_id
    )
    return organization_id


def _until_somebody_waits(database: Any) -> None:
    with database.connect() as connection:
        for _ in range(3000):
            if connection.execute(
                "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
            ).fetchall():
                return
            connection.execute("select pg_sleep(0.01)")
    raise AssertionError("nobody waits for a lock")
