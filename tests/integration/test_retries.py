"""A run's attempts: what is tried again and when, what is handed back, what crashes, and where it all ends."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from typer.testing import CliRunner

from kiket_worker.artifacts.directory import DirectoryStore
from kiket_worker.cli.app import app
from kiket_worker.dbt.engine import Cancellation
from kiket_worker.errors import ArtifactsRefused, ArtifactsUnreachable, KiketError, PostgresUnreachable, WorkerStopped
from kiket_worker.ledger import claims, organizations, outbox, runs
from kiket_worker.ledger.claims import Claim
from kiket_worker.ledger.database import Connection, Database
from kiket_worker.ledger.runs import Request, RunId, Status
from kiket_worker.refresh.pipeline import refresh
from kiket_worker.refresh.services import Services
from kiket_worker.tenants.schema import schema_name
from kiket_worker.tenants.sessions import application_name
from tests.support.dbt_scripts import processes_of
from tests.support.refreshes import Refreshes

GOOD = "build('a')"
HANGING = "start('a')\ntell('started')\nhang()"
DEADLOCK = "Database Error in model {} (models/x.sql)\\n  deadlock detected\\n  DETAIL:  Process 7 waits for ShareLock"
CLOSED = "Database Error in model {}\\n  server closed the connection unexpectedly\\n\\tThis probably means"
OWN = 'Database Error in model {}\\n  relation "isues" does not exist'
REFUSED = 'connection to server at \\"127.0.0.1\\", port 5432 failed: Connection refused'
HOUR = 3600.0


def failing(**messages: str) -> str:
    """A dbt whose models fail with these messages, by model; an empty one succeeds."""
    lines = []
    for model, message in messages.items():
        status = "error" if message else "success"
        lines.append(f"start('{model}'); finish('{model}', '{status}')")
    results = ", ".join(
        f"result('{model}', 'error', '{message.format(model)}')" if message else f"result('{model}')"
        for model, message in messages.items()
    )
    return "\n".join([*lines, f"write({{'results': [{results}]}})", "sys.exit(1)"])


def patient(services: Services, *, base_seconds: float = HOUR, **changes: Any) -> Services:
    """With retries that wait so long that only a test's shifting of time brings them about."""
    return replace(services, retries=replace(services.retries, base_seconds=base_seconds, **changes))


class FailingStore(DirectoryStore):
    """Raises the next fault at each index that it is given, and takes it when none is left."""

    def __init__(self, root: Path, *faults: Exception) -> None:
        super().__init__(root)
        self._faults = list(faults)

    def put(self, key: str, file: Path, **options: Any) -> None:
        if self._faults and re.search(r"index\.json$", key):
            raise self._faults.pop(0)
        super().put(key, file, **options)


def attempts(refreshes: Refreshes, run_id: UUID) -> list[tuple[Any, ...]]:
    return refreshes.rows(
        "select attempt, worker, outcome, error_kind from kiket_analytics.attempts where run_id = %s"
        " order by lease_epoch",
        run_id,
    )


def names(refreshes: Refreshes) -> list[str]:
    """The events of runs and organisations, without those of models and of steps on the way."""
    steps = {"model.finished", "model.failed", "run.built", "run.archived", "run.claimed"}
    return [event["event"] for event in refreshes.events() if event["event"] not in steps]


def tick(refreshes: Refreshes) -> list[UUID]:
    """The runs that a ticker publishes now."""
    sent: list[outbox.Waiting] = []
    outbox.publish_waiting(refreshes.ledger, sent.append, republish_after_seconds=10 * HOUR)
    return [waiting.run_id for waiting in sent]


def pass_time(refreshes: Refreshes) -> None:
    """As if all that waits for a retry had waited long enough."""
    refreshes.execute(
        "update kiket_analytics.runs set not_before = now() - interval '1 second'"
        " where not_before > now() and finished_at is null"
    )


def last_run_at(refreshes: Refreshes, organization_id: int = 1) -> datetime | None:
    query = "select last_run_at from kiket_analytics.analytics_settings where organization_id = %s"
    return refreshes.rows(query, organization_id)[0][0]


def due(refreshes: Refreshes, now: datetime | None = None) -> set[str]:
    """Who is due now; nothing stays queued of it."""
    with refreshes.ledger.transaction() as connection:
        rows = connection.execute(
            b"select count(*) as active from kiket_analytics.runs where finished_at is null"
        ).fetchone()
    assert rows is not None
    assert rows["active"] == 0, "what is active is never due"
    queued = outbox.queue_due(refreshes.ledger, now or datetime.now(UTC))
    for run in queued:
        runs.cancel(refreshes.ledger, run.run_id)
    return {run.organization_slug for run in queued}


def crash(refreshes: Refreshes, run_id: UUID, worker: str = "crashing") -> Claim:
    """A worker that claims and is never heard of again; its lease has expired."""
    claimed = claims.claim(
        refreshes.ledger,
        run_id,
        worker=worker,
        ttl_seconds=60,
        schema_name=schema_name,
        end_sessions=lambda *_: 0,
    )
    assert isinstance(claimed, Claim)
    refreshes.execute(
        "update kiket_analytics.leases set expires_at = now() - interval '1 second' where run_id = %s", run_id
    )
    return claimed


# Retries.


def test_a_store_that_is_away_for_a_moment_costs_an_attempt_and_no_run(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    store = FailingStore(refreshes.folder / "artifacts", ArtifactsUnreachable("no route"))
    services = patient(refreshes.services(GOOD, store=store))

    assert refresh(run_id, services, Cancellation()) is Status.BUILT
    run = refreshes.run(run_id)
    assert (run.status, run.attempt, run.error_kind, run.finished_at) == (Status.BUILT, 1, None, None)
    assert run.not_before is not None
    waits = run.not_before - datetime.now(UTC)
    assert timedelta(minutes=9) < waits <= timedelta(minutes=10), "an hour is cut to ten minutes"
    assert refreshes.lease() == (None, 1, None)
    assert attempts(refreshes, run_id) == [(1, "here", "retried", "artifacts_unreachable")]
    assert refreshes.usage() == []
    assert last_run_at(refreshes) is None, "the run has not ended"
    told = refreshes.events()[-1]
    assert (told["event"], told["error_kind"], told["error"]) == ("run.retried", "artifacts_unreachable", "no route")
    assert (told["attempt"], told["delay_seconds"], told["run_id"]) == (1, 600, str(run_id))

    # Before its time nobody publishes it, and a message that comes all the same changes nothing.
    assert tick(refreshes) == []
    assert refresh(run_id, services, Cancellation()) is Status.BUILT
    assert attempts(refreshes, run_id) == [(1, "here", "retried", "artifacts_unreachable")]

    pass_time(refreshes)
    assert tick(refreshes) == [run_id]
    assert tick(refreshes) == [], "once"
    assert refresh(run_id, services, Cancellation()) is Status.SUCCEEDED
    run = refreshes.run(run_id)
    assert (run.attempt, run.crashes, run.not_before) == (2, 0, None)
    assert [row[:3] for row in attempts(refreshes, run_id)] == [(1, "here", "retried"), (2, "here", "succeeded")]
    assert refreshes.statuses(run_id) == ["queued", "running", "built", "running", "built", "archived", "succeeded"]
    assert refreshes.faults(run_id, attempt=2) == []
    assert [usage["model_id"] for usage in refreshes.usage()] == ["model.fake.a"]
    assert names(refreshes) == ["run.retried", "run.succeeded"]


def test_a_fault_that_does_not_pass_fails_the_run_with_the_last_attempt(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    faults = [ArtifactsUnreachable(f"no route, try {number}") for number in (1, 2, 3, 4)]
    services = patient(refreshes.services(GOOD, store=FailingStore(refreshes.folder / "artifacts", *faults)))
    assert refresh(run_id, services, Cancellation()) is Status.BUILT
    pass_time(refreshes)
    assert refresh(run_id, services, Cancellation()) is Status.BUILT
    pass_time(refreshes)
    assert refresh(run_id, services, Cancellation()) is Status.FAILED
    run = refreshes.run(run_id)
    assert (run.attempt, run.error_kind) == (3, "artifacts_unreachable")
    assert [row[2] for row in attempts(refreshes, run_id)] == ["retried", "retried", "failed"]
    assert names(refreshes) == ["run.retried", "run.retried", "run.failed"]
    assert last_run_at(refreshes) == run.started_at
    assert refreshes.lease() == (None, 3, None)
    assert refreshes.usage() == []


def test_a_fault_that_trying_again_cannot_mend_is_not_tried_again(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    store = FailingStore(refreshes.folder / "artifacts", ArtifactsRefused("no such bucket"))
    assert refresh(run_id, refreshes.services(GOOD, store=store), Cancellation()) is Status.FAILED
    assert attempts(refreshes, run_id) == [(1, "here", "failed", "artifacts_refused")]


@pytest.mark.parametrize(
    "script",
    [
        failing(a=DEADLOCK),
        failing(a=CLOSED, b=DEADLOCK),
        failing(a="", b=CLOSED),
        f"say('MainEncounteredError', level='error', msg='Database Error\\n  {REFUSED}')\nsys.exit(2)",
    ],
    ids=["deadlock", "both", "one of two", "cannot connect"],
)
def test_what_postgres_interrupted_is_tried_again(refreshes: Refreshes, script: str) -> None:
    run_id = refreshes.request()
    assert refresh(run_id, patient(refreshes.services(script)), Cancellation()) is Status.RUNNING
    assert attempts(refreshes, run_id) == [(1, "here", "retried", "database_interrupted")]
    assert last_run_at(refreshes) is None
    assert names(refreshes) == ["run.retried"]
    pass_time(refreshes)
    assert refresh(run_id, refreshes.services(GOOD), Cancellation()) is Status.SUCCEEDED
    assert refreshes.run(run_id).attempt == 2
    # The models of the first attempt are forgotten, and cost nothing.
    assert [usage["model_id"] for usage in refreshes.usage()] == ["model.fake.a"]


@pytest.mark.parametrize("script", [failing(a=OWN), failing(a=DEADLOCK, b=OWN), failing(a=OWN, b=CLOSED)])
def test_a_models_own_error_is_not_tried_again_before_the_next_cadence(refreshes: Refreshes, script: str) -> None:
    run_id = refreshes.request()
    assert refresh(run_id, refreshes.services(script), Cancellation()) is Status.FAILED
    run = refreshes.run(run_id)
    assert (run.error_kind, run.attempt) == ("model_failed", 1)
    assert attempts(refreshes, run_id) == [(1, "here", "failed", "model_failed")]
    assert names(refreshes) == ["run.failed"]
    assert last_run_at(refreshes) == run.started_at
    assert run.started_at is not None
    hours = organizations.find(refreshes.ledger, "acme").interval_hours
    assert hours is not None
    next_time = run.started_at + timedelta(hours=hours)
    assert "acme" not in due(refreshes, next_time - timedelta(seconds=1))
    assert "acme" in due(refreshes, next_time)


def test_a_dbt_that_something_else_killed_is_tried_again(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    script = "import signal\nstart('a')\nos.kill(os.getpid(), signal.SIGKILL)"
    assert refresh(run_id, patient(refreshes.services(script)), Cancellation()) is Status.RUNNING
    assert attempts(refreshes, run_id) == [(1, "here", "retried", "dbt_killed")]
    assert [(model.model_id, model.status) for model in runs.models(refreshes.ledger, run_id)] == [
        ("model.fake.a", "error")
    ], "what dbt had begun will not end any more"
    assert processes_of(application_name(run_id)) == []


def test_a_run_that_waits_for_its_retry_is_cancelled_at_once(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    refresh(run_id, patient(refreshes.services(failing(a=DEADLOCK))), Cancellation())
    assert runs.cancel(refreshes.ledger, run_id) is Status.CANCELLED
    assert refreshes.run(run_id).status is Status.CANCELLED
    assert refresh(run_id, refreshes.services(GOOD), Cancellation()) is Status.CANCELLED
    pass_time(refreshes)
    assert tick(refreshes) == []
    # Its organisation is free for the next one.
    assert refresh(refreshes.request(), refreshes.services(GOOD), Cancellation()) is Status.SUCCEEDED


def test_a_request_during_the_wait_for_a_retry_runs_after_it(refreshes: Refreshes) -> None:
    first = refreshes.request()
    refresh(first, patient(refreshes.services(failing(a=DEADLOCK))), Cancellation())
    second = refreshes.request()
    assert second != first
    assert refresh(second, refreshes.services(GOOD), Cancellation()) is Status.QUEUED
    pass_time(refreshes)
    assert refresh(first, refreshes.services(GOOD), Cancellation()) is Status.SUCCEEDED
    assert refresh(second, refreshes.services(GOOD), Cancellation()) is Status.SUCCEEDED


# Hand-backs.


def test_an_attempt_that_is_handed_back_does_not_count(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    for worker in ("first", "second", "third", "fourth"):
        (refreshes.folder / "started").unlink(missing_ok=True)
        stopping = Cancellation()
        going = refreshes.start(run_id, refreshes.services(HANGING, worker=worker), stopping)
        refreshes.until_told("started")
        stopping.cancel(WorkerStopped("now"))
        assert going.wait() is Status.RUNNING
        run = refreshes.run(run_id)
        assert (run.attempt, run.crashes, run.handed_back) == (1, 0, True)
        assert last_run_at(refreshes) is None
        assert tick(refreshes) == [run_id], "at once, and by whichever worker comes next"
    assert refresh(run_id, refreshes.services(GOOD), Cancellation()) is Status.SUCCEEDED
    run = refreshes.run(run_id)
    assert (run.attempt, run.handed_back) == (1, False)
    assert [row[:3] for row in attempts(refreshes, run_id)] == [
        *((1, worker, "handed_back") for worker in ("first", "second", "third", "fourth")),
        (1, "here", "succeeded"),
    ]
    assert refreshes.faults(run_id) == []


# Crashes.


def test_a_crashed_attempt_is_counted_by_who_takes_the_run_over(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    crash(refreshes, run_id)
    assert attempts(refreshes, run_id) == [(1, "crashing", None, None)]
    assert tick(refreshes) == [run_id]
    assert refresh(run_id, refreshes.services(GOOD), Cancellation()) is Status.SUCCEEDED
    run = refreshes.run(run_id)
    assert (run.attempt, run.crashes) == (2, 1)
    assert [row[:3] for row in attempts(refreshes, run_id)] == [(1, "crashing", "crashed"), (2, "here", "succeeded")]
    assert names(refreshes) == ["run.taken_over", "run.succeeded"]


def quarantined(refreshes: Refreshes) -> RunId:
    run_id = refreshes.request()
    crash(refreshes, run_id)
    crash(refreshes, run_id)
    assert refresh(run_id, refreshes.services("tell('reached')"), Cancellation()) is Status.FAILED
    assert not refreshes.has("reached"), "it would crash its worker once more"
    return run_id


def test_an_organisation_whose_attempts_crash_is_quarantined(refreshes: Refreshes) -> None:
    run_id = quarantined(refreshes)
    run = refreshes.run(run_id)
    assert (run.error_kind, run.crashes, run.attempt) == ("attempts_exhausted", 2, 3)
    assert [row[2] for row in attempts(refreshes, run_id)] == ["crashed", "crashed", "failed"]
    assert refreshes.lease() == (None, 3, None)
    told = refreshes.events()[-1]
    assert (told["event"], told["organization"], told["run_id"]) == ("organization.quarantined", "acme", str(run_id))
    assert names(refreshes) == ["run.taken_over", "run.failed", "organization.quarantined"]

    # Nobody is due a year later who would not be today, except that this one never is.
    later = datetime.now(UTC) + timedelta(days=365)
    assert due(refreshes, later) == {
        organization.slug
        for organization in organizations.list_with_settings(refreshes.ledger)
        if organization.enabled and organization.slug != "acme"
    }
    asked = refreshes.request()
    assert refresh(asked, refreshes.services(GOOD), Cancellation()) is Status.SKIPPED
    assert refreshes.run(asked).error_kind == "organization_quarantined"


def test_a_quarantine_ends_by_command_and_forced_runs_do_not_wait_for_it(
    refreshes: Refreshes, monkeypatch: pytest.MonkeyPatch
) -> None:
    quarantined(refreshes)
    assert refresh(refreshes.request(forced=True), refreshes.services(GOOD), Cancellation()) is Status.SUCCEEDED
    state = organizations.find(refreshes.ledger, "acme")
    assert state.quarantine_reason is not None, "a success by force ends nothing"
    assert state.last_run_at is not None
    later = state.last_run_at + timedelta(days=365)
    assert "acme" not in due(refreshes, later)

    command = Command(refreshes, monkeypatch)
    # Neither pausing nor enabling is a release.
    for setting in ("--paused", "--enabled"):
        assert command("settings", "set", "acme", setting, "--json")["quarantine_reason"] == state.quarantine_reason
    assert command("settings", "release", "acme", "--json")["quarantine_reason"] is None
    assert "acme" in due(refreshes, later)
    assert refresh(refreshes.request(), refreshes.services(GOOD), Cancellation()) is Status.SUCCEEDED


def test_an_organisation_without_settings_that_is_quarantined_is_not_enabled_by_its_release(
    refreshes: Refreshes, monkeypatch: pytest.MonkeyPatch
) -> None:
    refreshes.execute("delete from kiket_analytics.analytics_settings where organization_id = 1")
    run_id = refreshes.request(forced=True)
    crash(refreshes, run_id)
    crash(refreshes, run_id)
    assert refresh(run_id, refreshes.services(GOOD), Cancellation()) is Status.FAILED
    released = Command(refreshes, monkeypatch)("settings", "release", "acme", "--json")
    assert (released["enabled"], released["quarantine_reason"]) == (False, None)


def test_retries_and_hand_backs_bring_no_quarantine(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    services = patient(refreshes.services(failing(a=DEADLOCK)), attempts=9)
    for _ in range(5):
        assert refresh(run_id, services, Cancellation()) is Status.RUNNING
        pass_time(refreshes)
    assert refresh(run_id, refreshes.services(GOOD), Cancellation()) is Status.SUCCEEDED
    assert (refreshes.run(run_id).attempt, refreshes.run(run_id).crashes) == (6, 0)
    assert organizations.find(refreshes.ledger, "acme").quarantine_reason is None


# An end whose answer was lost.


class LosesAnswers:
    """The ledger's database; once `is_lost` holds after a commit, the commit's answer does not come, some times."""

    def __init__(self, database: Database, is_lost: Callable[[], bool], times: int) -> None:
        self._database = database
        self._is_lost = is_lost
        self._times = times
        self.lost = 0

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        with self._database.transaction() as connection:
            yield connection
        if self.lost < self._times and self._is_lost():
            self.lost += 1
            raise PostgresUnreachable("the connection broke after the commit was sent")

    def rows(self, query: bytes, parameters: dict[str, Any] | None = None) -> list[Any]:
        with self.transaction() as connection:
            return connection.execute(query, parameters).fetchall()

    def connect(self, *, timeout_seconds: float = 10) -> Connection:
        return self._database.connect(timeout_seconds=timeout_seconds)


def forgetful(refreshes: Refreshes, services: Services, run_id: UUID, outcome: str, times: int = 1) -> LosesAnswers:
    """The answer of the commit that gives the run's attempt this outcome is lost."""
    query = "select from kiket_analytics.attempts where run_id = %s and outcome = %s"
    database = LosesAnswers(services.database, lambda: bool(refreshes.rows(query, run_id, outcome)), times)
    object.__setattr__(services, "database", database)
    return database


@pytest.mark.parametrize("attempts_allowed", [1, 3])
def test_a_success_whose_answer_was_lost_is_a_success_once(refreshes: Refreshes, attempts_allowed: int) -> None:
    run_id = refreshes.request()
    services = patient(refreshes.services(GOOD), attempts=attempts_allowed)
    database = forgetful(refreshes, services, run_id, "succeeded")
    assert refresh(run_id, services, Cancellation()) is Status.SUCCEEDED
    assert database.lost == 1
    assert refreshes.statuses(run_id) == ["queued", "running", "built", "archived", "succeeded"]
    assert len(refreshes.usage()) == 1
    assert [row[2] for row in attempts(refreshes, run_id)] == ["succeeded"]
    assert refreshes.lease() == (None, 1, None)
    assert "run.retried" not in names(refreshes)
    assert "run.failed" not in names(refreshes)


def test_a_failure_whose_answer_was_lost_is_a_failure_once(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    services = refreshes.services(failing(a=OWN))
    database = forgetful(refreshes, services, run_id, "failed")
    assert refresh(run_id, services, Cancellation()) is Status.FAILED
    assert database.lost == 1
    assert refreshes.statuses(run_id) == ["queued", "running", "failed"]
    assert refreshes.run(run_id).error_kind == "model_failed"
    assert [row[2] for row in attempts(refreshes, run_id)] == ["failed"]


def test_a_cancelling_whose_answer_was_lost_is_one_once(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    services = refreshes.services(HANGING, lease_ttl_seconds=1)
    database = forgetful(refreshes, services, run_id, "cancelled")
    going = refreshes.start(run_id, services)
    refreshes.until_told("started")
    runs.cancel(refreshes.ledger, run_id)
    assert going.wait() is Status.CANCELLED
    assert database.lost == 1
    assert refreshes.statuses(run_id) == ["queued", "running", "cancelled"]


@pytest.mark.parametrize(("outcome", "counted"), [("retried", 2), ("handed_back", 1)])
def test_a_run_given_back_whose_answer_was_lost_is_given_back_once(
    refreshes: Refreshes, outcome: str, counted: int
) -> None:
    run_id = refreshes.request()
    services = patient(refreshes.services(HANGING if outcome == "handed_back" else failing(a=DEADLOCK)))
    database = forgetful(refreshes, services, run_id, outcome, times=2)
    stopping = Cancellation()
    going = refreshes.start(run_id, services, stopping)
    if outcome == "handed_back":
        refreshes.until_told("started")
        stopping.cancel(WorkerStopped("now"))
    assert going.wait() is Status.RUNNING
    assert database.lost == 2
    assert [row[2] for row in attempts(refreshes, run_id)] == [outcome]
    pass_time(refreshes)
    assert tick(refreshes) == [run_id]
    assert refresh(run_id, refreshes.services(GOOD), Cancellation()) is Status.SUCCEEDED
    assert refreshes.run(run_id).attempt == counted


def test_a_step_whose_answer_was_lost_is_taken_again_with_the_next_attempt(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    services = patient(refreshes.services(GOOD))
    database = LosesAnswers(services.database, lambda: refreshes.run(run_id).status is Status.ARCHIVED, 1)
    object.__setattr__(services, "database", database)
    assert refresh(run_id, services, Cancellation()) is Status.ARCHIVED
    assert attempts(refreshes, run_id) == [(1, "here", "retried", "postgres_unreachable")]
    pass_time(refreshes)
    # Only its usage is left to record.
    assert refresh(run_id, refreshes.services("tell('built again')"), Cancellation()) is Status.SUCCEEDED
    assert not refreshes.has("built again")
    assert len(refreshes.usage()) == 1


def test_a_publication_of_a_run_that_has_ended_meanwhile_is_no_error(refreshes: Refreshes) -> None:
    """A worker may skip or end the run between its message and the note that it was published."""
    run_id = refreshes.request()
    outbox.publish_of(refreshes.ledger, lambda waiting: runs.cancel(refreshes.ledger, waiting.run_id) and None, 1)
    run = refreshes.run(run_id)
    assert (run.status, run.published_at) == (Status.CANCELLED, None)


# Repeated by command.


class Command:
    """The product's command, in this process, without RabbitMQ."""

    def __init__(self, refreshes: Refreshes, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DATABASE_URL", refreshes.url)
        monkeypatch.setenv("RABBITMQ_URL", "memory://")
        monkeypatch.setenv("ARTIFACTS_URL", (refreshes.folder / "artifacts").as_uri())

    def __call__(self, *arguments: str) -> Any:
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, (done.output, done.exception)
        return json.loads(done.stdout)


def test_a_run_that_failed_is_repeated_by_command_as_it_was_asked_for(
    refreshes: Refreshes, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = organizations.find(refreshes.ledger, "acme")
    wanted = Request(
        found.organization_id, "acme", requested_by="user:42", forced=True, full_refresh=True, selection=["fct+"]
    )
    first = runs.request(refreshes.ledger, wanted).run_id
    refresh(first, refreshes.services(failing(a=OWN)), Cancellation())
    retried = Command(refreshes, monkeypatch)("runs", "retry", str(first), "--json")
    again = refreshes.run(UUID(retried["run_id"]))
    assert (again.status, again.reason, again.attempt) == (Status.QUEUED, "retry", 0)
    assert (again.forced, again.full_refresh, again.selection) == (True, True, ["fct+"])
    assert refreshes.run(first).status is Status.FAILED
    # Asked for twice, it waits once.
    assert Command(refreshes, monkeypatch)("runs", "retry", str(first), "--json")["run_id"] == retried["run_id"]
    assert refresh(again.run_id, refreshes.services(GOOD), Cancellation()) is Status.SUCCEEDED


def test_an_error_that_nobody_foresaw_is_not_tried_again(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    store = FailingStore(refreshes.folder / "artifacts", ZeroDivisionError("a bug"))
    assert refresh(run_id, refreshes.services(GOOD, store=store), Cancellation()) is Status.FAILED
    assert attempts(refreshes, run_id) == [(1, "here", "failed", KiketError.kind)]
