"""The way of a refresh: a real ledger, a real store, and a stand-in for dbt that waits for its test."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from kiket_worker.artifacts.directory import DirectoryStore
from kiket_worker.dbt.engine import Cancellation
from kiket_worker.errors import ArtifactsRefused, ArtifactsUnreachable, KiketError, LeaseLost, WorkerStopped
from kiket_worker.ledger import leases, runs
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.runs import Status
from kiket_worker.refresh.pipeline import STEPS, Step, refresh
from kiket_worker.tenants.sessions import application_name
from tests.support.dbt_scripts import processes_of, until
from tests.support.refreshes import Refreshes, shared_models

GOOD = "build('a', 'b')"
WAITING = "start('a')\ntell('started')\nwait_for('go')\nbuild('a', 'b')"
HANGING = "subprocess.Popen(['sleep', '600'])\nstart('a')\ntell('started')\nhang()"
# A killed dbt does not end its statement: this one would hold its session for ten minutes.
QUERYING = """
import psycopg
query = lambda: psycopg.connect(
    host=os.environ["DBT_HOST"], port=os.environ["DBT_PORT"], dbname=os.environ["DBT_DATABASE"],
    user=os.environ["DBT_USER"], application_name=os.environ["DBT_APPLICATION_NAME"], autocommit=True,
)
"""
SLEEPING = QUERYING + "connection = query()\nstart('a')\ntell('started')\nconnection.execute('select pg_sleep(600)')"
# The row's value is where Postgres puts it: on a line after the first.
BROKEN = """
message = "Database Error in model b (models/b.sql)\\n  duplicate key\\n  DETAIL:  Key (email)=(ada@acme.example)"
start('a'); finish('a'); start('b'); finish('b', 'error')
write({"results": [result('a'), result('b', 'error', message)]})
sys.exit(1)
"""


UNKNOWN = UUID("01890000-0000-7000-8000-000000000000")


class Session:
    """A database session by its name, that stands for another attempt's dbt."""

    def __init__(self, refreshes: Refreshes, name: str) -> None:
        self._connection = psycopg.connect(refreshes.url, autocommit=True, application_name=name)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def lives(self) -> bool:
        try:
            return self._connection.execute("select 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False


def take_over(refreshes: Refreshes) -> None:
    """What another worker's claim does to the ledger."""
    refreshes.execute("update kiket_analytics.leases set epoch = epoch + 1, worker = 'thief' where run_id is not null")
    refreshes.execute(
        "update kiket_analytics.runs set lease_epoch = lease_epoch + 1, attempt = attempt + 1, worker = 'thief'"
    )


def whole_ledger(refreshes: Refreshes) -> list[object]:
    tables = ("runs", "run_models", "leases", "usage_events", "analytics_settings")
    return [refreshes.rows(f"select * from kiket_analytics.{table} order by 1") for table in tables]


@pytest.fixture
def fresh(sample_database: Any, ledger: Database, tmp_path: Path) -> Refreshes:
    """Without the shared schema."""
    return Refreshes.prepare(sample_database.url, ledger, tmp_path, shared=False)


class RefusingStore(DirectoryStore):
    """Takes files, and fails at the one that matches."""

    def __init__(self, root: Path, fault: Exception, pattern: str) -> None:
        super().__init__(root)
        self._fault, self._pattern = fault, pattern

    def put(self, key: str, file: Path, **options: Any) -> None:
        if re.search(self._pattern, key):
            raise self._fault
        super().put(key, file, **options)


def test_a_refresh_takes_its_steps_in_order_and_leaves_artifacts_usage_and_the_time(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    assert refresh(run_id, refreshes.services(GOOD), Cancellation()) is Status.SUCCEEDED
    assert refreshes.statuses(run_id) == ["queued", "running", "built", "archived", "succeeded"]

    run = refreshes.run(run_id)
    assert (run.attempt, run.worker, run.billable, run.error_kind) == (1, "here", True, None)
    assert refreshes.faults(run_id) == []
    index = json.loads(refreshes.store.get(f"acme/{run_id}/1/index.json"))
    assert {file["name"] for file in index["files"]} == {"run_results.json", "dbt.log", "otel-logs.jsonl"}
    assert (index["run_id"], index["organization"], index["attempt"]) == (str(run_id), "acme", 1)
    assert (index["engine"], len(index["bundle_digest"])) == ("executable", 64)

    assert refreshes.usage() == [
        {"model_id": f"model.fake.{name}", "status": "success", "duration_seconds": 0.25} for name in "ab"
    ]
    ((metric, organization_id, last_run_at, started_at),) = refreshes.rows(
        "select distinct metric, usage.organization_id, last_run_at, started_at"
        " from kiket_analytics.usage_events as usage"
        " join kiket_analytics.analytics_settings using (organization_id) join kiket_analytics.runs using (run_id)"
        " where usage.organization_id = %s",
        1,
    )
    assert (metric, organization_id) == ("analytics_dbt_run", 1)
    assert last_run_at == started_at
    assert refreshes.lease() == (None, 1, None)


def test_the_log_tells_the_same_story_with_the_names_of_the_run(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    refresh(run_id, refreshes.services(GOOD), Cancellation())
    told = refreshes.events()
    assert [event["event"] for event in told] == [
        "run.claimed",
        *("model.finished", "model.finished"),
        *("run.built", "run.archived", "run.succeeded"),
    ]
    for event in told:
        assert (event["organization"], event["run_id"], event["attempt"], event["worker"]) == (
            *("acme", str(run_id)),
            *(1, "here"),
        )
    assert [event["model_id"] for event in told[1:3]] == ["model.fake.a", "model.fake.b"]
    assert told[-1]["usage_events"] == 2
    assert "hush-hush" not in refreshes.log.getvalue()


def test_the_lease_is_held_and_renewed_while_dbt_builds(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    going = refreshes.start(run_id, refreshes.services(WAITING, lease_ttl_seconds=1))
    refreshes.until_told("started")
    first = refreshes.lease()
    assert first is not None
    assert first[0] == "here"
    until(lambda: (refreshes.lease() or first)[2] > first[2], "the lease to be renewed once")
    renewed = refreshes.lease()
    until(lambda: (refreshes.lease() or first)[2] > (renewed or first)[2], "the lease to be renewed twice")
    assert refresh(run_id, refreshes.services(GOOD, worker="other"), Cancellation()) is Status.RUNNING
    assert refreshes.run(run_id).attempt == 1
    refreshes.tell("go")
    assert going.wait() is Status.SUCCEEDED


def test_a_failed_model_fails_the_run_and_its_artifacts_are_kept_without_usage(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    assert refresh(run_id, refreshes.services(BROKEN), Cancellation()) is Status.FAILED
    assert refreshes.statuses(run_id) == ["queued", "running", "failed"]
    run = refreshes.run(run_id)
    assert run.error_kind == "model_failed"
    assert run.error_message is not None
    assert "1 of 2 models failed: b. Database Error in model b" in run.error_message
    assert "duplicate key" in run.error_message
    assert [(model.model_id, model.status) for model in runs.models(refreshes.ledger, run_id)] == [
        ("model.fake.a", "success"),
        ("model.fake.b", "error"),
    ]
    assert refreshes.faults(run_id) == []
    assert run.artifacts_location == refreshes.store.location(f"acme/{run_id}/1")
    assert refreshes.usage() == []
    assert refreshes.lease() == (None, 1, None)

    told = [event["event"] for event in refreshes.events()]
    assert told == ["run.claimed", "model.finished", "model.failed", "run.archived", "run.failed"]
    assert refreshes.events()[-1]["error_kind"] == "model_failed"
    assert refreshes.events()[-1]["error"].endswith("Database Error in model b (models/b.sql): duplicate key")
    assert "ada@acme.example" not in refreshes.left(run_id)


def test_rows_in_a_crashing_dbts_last_words_stay_out_of_all_that_it_leaves(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    script = "print('UniqueViolation: duplicate key')\nprint('DETAIL: (email)=(ada@acme.example)')\nsys.exit(1)"
    assert refresh(run_id, refreshes.services(script), Cancellation()) is Status.FAILED
    assert "UniqueViolation" in refreshes.log.getvalue()
    assert "ada@acme.example" not in refreshes.left(run_id)


@pytest.mark.parametrize("fault", [ArtifactsRefused("no such bucket"), ArtifactsUnreachable("no route")])
@pytest.mark.parametrize("pattern", [r"dbt\.log$", r"index\.json$"])
def test_a_run_whose_artifacts_are_not_all_stored_fails_and_costs_nothing(
    refreshes: Refreshes, fault: KiketError, pattern: str
) -> None:
    run_id = refreshes.request()
    store = RefusingStore(refreshes.folder / "artifacts", fault, pattern)
    services = refreshes.services(GOOD, store=store)
    services = replace(services, retries=replace(services.retries, attempts=1))
    assert refresh(run_id, services, Cancellation()) is Status.FAILED
    run = refreshes.run(run_id)
    assert (run.error_kind, run.error_message) == (fault.kind, str(fault))
    assert (run.artifacts_location, run.artifacts_index_sha256) == (None, None)
    assert refreshes.faults(run_id) == [f"acme/{run_id}/1 has no index"]
    assert refreshes.usage() == []


def test_a_folder_that_takes_no_artifacts_fails_the_run(refreshes: Refreshes) -> None:
    (refreshes.folder / "artifacts").write_text("a file in the way")
    run_id = refreshes.request()
    assert refresh(run_id, refreshes.services(GOOD), Cancellation()) is Status.FAILED
    assert refreshes.run(run_id).error_kind == "artifacts_refused"
    assert refreshes.usage() == []


def test_a_model_that_failed_is_the_reason_even_if_its_artifacts_cannot_be_kept(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    store = RefusingStore(refreshes.folder / "artifacts", ArtifactsRefused("full"), "index")
    refresh(run_id, refreshes.services(BROKEN, store=store), Cancellation())
    assert refreshes.run(run_id).error_kind == "model_failed"
    assert refreshes.run(run_id).artifacts_location is None


def test_a_fault_that_nobody_foresaw_ends_the_run_and_gives_the_lease_back(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    store = RefusingStore(refreshes.folder / "artifacts", OSError(28, "No space left on device"), "log")
    assert refresh(run_id, refreshes.services(GOOD, store=store), Cancellation()) is Status.FAILED
    run = refreshes.run(run_id)
    assert run.error_kind == "internal"
    assert "No space left on device" in str(run.error_message)
    assert refreshes.lease() == (None, 1, None)


def test_a_request_to_cancel_kills_dbt_and_ends_the_run(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    going = refreshes.start(run_id, refreshes.services(HANGING, lease_ttl_seconds=1))
    refreshes.until_told("started")
    assert len(processes_of(application_name(run_id))) == 3, "the guard, dbt, and what dbt has started"
    runs.cancel(refreshes.ledger, run_id)
    assert going.wait() is Status.CANCELLED
    assert processes_of(application_name(run_id)) == []
    assert refreshes.statuses(run_id) == ["queued", "running", "cancelled"]
    assert refreshes.lease() == (None, 1, None)
    assert refreshes.usage() == []
    assert refreshes.events()[-1]["event"] == "run.cancelled"


def test_the_database_sessions_of_a_killed_dbt_are_ended(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    services = refreshes.services(SLEEPING, libraries=True, lease_ttl_seconds=1)
    going = refreshes.start(run_id, services)
    refreshes.until_told("started")
    assert refreshes.sessions() == 1
    runs.cancel(refreshes.ledger, run_id)
    assert going.wait() is Status.CANCELLED
    assert refreshes.sessions() == 0


def test_an_attempt_that_lost_its_lease_is_killed_and_writes_nothing_more(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    going = refreshes.start(run_id, refreshes.services(HANGING, lease_ttl_seconds=1))
    refreshes.until_told("started")
    take_over(refreshes)
    # Of the same run's later attempt: the loser has to leave it alone.
    with Session(refreshes, application_name(run_id)) as winner:
        before = whole_ledger(refreshes)
        with pytest.raises(LeaseLost):
            going.wait()
        assert processes_of(application_name(run_id)) == []
        assert whole_ledger(refreshes) == before
        assert winner.lives()
    assert refreshes.events()[-1]["event"] == "lease.lost"


def test_a_loser_whose_dbt_fails_before_it_knows_does_not_end_the_winners_sessions(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    going = refreshes.start(run_id, refreshes.services("start('a')\ntell('started')\nwait_for('go')\n" + BROKEN))
    refreshes.until_told("started")
    take_over(refreshes)
    with Session(refreshes, application_name(run_id)) as winner:
        refreshes.tell("go")
        with pytest.raises(LeaseLost):
            going.wait()
        assert winner.lives()
    assert refreshes.run(run_id).status is Status.RUNNING


def test_a_run_that_a_stopping_worker_left_is_finished_by_another(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    stopping = Cancellation()
    going = refreshes.start(run_id, refreshes.services(HANGING, lease_ttl_seconds=1), stopping)
    refreshes.until_told("started")
    stopping.cancel(WorkerStopped("now"))
    assert going.wait() is Status.RUNNING
    assert processes_of(application_name(run_id)) == []
    assert refreshes.lease() == (None, 1, None), "handed back at once, not when the lease expires"

    assert refresh(run_id, refreshes.services(GOOD, worker="another"), Cancellation()) is Status.SUCCEEDED
    run = refreshes.run(run_id)
    assert (run.attempt, run.worker) == (1, "another"), "the attempt of a worker that had to end does not count"
    assert refreshes.faults(run_id) == []
    assert [usage["model_id"] for usage in refreshes.usage()] == ["model.fake.a", "model.fake.b"]
    names = [event["event"] for event in refreshes.events()]
    assert (names.count("run.handed_back"), names.count("run.taken_over")) == (1, 0)


def test_an_archived_run_only_records_its_usage_and_once(refreshes: Refreshes, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = refreshes.request()
    with monkeypatch.context() as patch:

        def die(_: object) -> Status:
            raise WorkerStopped("after the archive")

        patch.setitem(STEPS, Status.ARCHIVED, Step("record", die))
        assert refresh(run_id, refreshes.services(GOOD), Cancellation()) is Status.ARCHIVED
    assert refreshes.run(run_id).status is Status.ARCHIVED
    assert refreshes.usage() == []

    services = refreshes.services("tell('built again')\nbuild('c')")
    assert refresh(run_id, services, Cancellation()) is Status.SUCCEEDED
    assert refresh(run_id, services, Cancellation()) is Status.SUCCEEDED
    assert not refreshes.has("built again")
    assert [usage["model_id"] for usage in refreshes.usage()] == ["model.fake.a", "model.fake.b"]
    assert refreshes.statuses(run_id)[-2:] == ["archived", "succeeded"]


def test_a_second_attempt_forgets_the_models_of_the_first(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    stopping = Cancellation()
    going = refreshes.start(run_id, refreshes.services(HANGING.replace("'a'", "'old'"), lease_ttl_seconds=1), stopping)
    refreshes.until_told("started")
    until(lambda: runs.models(refreshes.ledger, run_id), "the model in the ledger")
    stopping.cancel(WorkerStopped("now"))
    assert going.wait() is Status.RUNNING
    assert refresh(run_id, refreshes.services(GOOD), Cancellation()) is Status.SUCCEEDED
    assert [model.model_id for model in runs.models(refreshes.ledger, run_id)] == ["model.fake.a", "model.fake.b"]


def test_an_unknown_run_is_none_and_an_ended_one_stays_as_it_is(refreshes: Refreshes) -> None:
    services = refreshes.services(GOOD)
    assert refresh(runs.RunId(UNKNOWN), services, Cancellation()) is None
    run_id = refreshes.request()
    runs.cancel(refreshes.ledger, run_id)
    assert refresh(run_id, services, Cancellation()) is Status.CANCELLED
    assert refreshes.events() == []


def test_a_slug_that_is_no_schema_never_reaches_dbt(refreshes: Refreshes) -> None:
    hostile = "a'; drop schema public"
    refreshes.execute(
        "insert into organizations (id, slug, name, plan, created_at) values (99, %s, 'x', 'team', now())", hostile
    )
    run_id = refreshes.request(hostile, forced=True)
    assert refresh(run_id, refreshes.services("tell('reached')"), Cancellation()) is Status.SKIPPED
    assert refreshes.run(run_id).error_kind == "organization_slug_invalid"
    assert not refreshes.has("reached")
    assert [event["event"] for event in refreshes.events()] == ["run.skipped"]


# The shared schema.

SHARED = (
    QUERYING
    + """
if is_shared:
    with (here / "shared builds").open("a") as file:
        file.write("one\\n")
    tell("shared")
    wait_for("go")
    connection = query()
    connection.execute("create schema analytics_shared")
    connection.execute("create table analytics_shared.dim_dates (date_day date)")
build('dim_dates' if is_shared else 'a')
"""
)


def test_two_refreshes_of_a_fresh_database_build_the_shared_models_once(fresh: Refreshes) -> None:
    services = fresh.services(SHARED, libraries=True)
    run_ids = [fresh.request("acme"), fresh.request("north_star")]
    going = [fresh.start(run_id, services) for run_id in run_ids]
    fresh.until_told("shared")
    until(lambda: all(fresh.run(run_id).status is Status.RUNNING for run_id in run_ids), "both runs to be claimed")
    fresh.tell("go")
    assert [one.wait() for one in going] == [Status.SUCCEEDED] * 2
    assert (fresh.folder / "shared builds").read_text() == "one\n"
    assert [usage["model_id"] for usage in fresh.usage()] == ["model.fake.a"] * 2
    assert fresh.lease("analytics_shared") is not None
    assert (fresh.lease("analytics_shared") or [None])[0] is None


def test_shared_models_that_were_built_meanwhile_are_not_built_again(
    fresh: Refreshes, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire = leases.acquire_schema

    def late(database: Database, schema: str, *, worker: str, ttl_seconds: float) -> int | None:
        """As if another worker had built them and given the lease back just before."""
        fresh.execute(shared_models())
        return acquire(database, schema, worker=worker, ttl_seconds=ttl_seconds)

    monkeypatch.setattr(leases, "acquire_schema", late)
    run_id = fresh.request()
    services = fresh.services("build('a')\nif is_shared: tell('built again')")
    assert refresh(run_id, services, Cancellation()) is Status.SUCCEEDED
    assert not fresh.has("built again")


def test_a_failed_build_of_the_shared_models_fails_the_run_and_frees_their_lease(fresh: Refreshes) -> None:
    run_id = fresh.request()
    assert refresh(run_id, fresh.services(BROKEN), Cancellation()) is Status.FAILED
    run = fresh.run(run_id)
    assert run.error_kind == "model_failed"
    assert fresh.lease("analytics_shared") == (None, 1, None)
    assert fresh.usage() == []


def test_shared_models_that_dbt_claims_to_have_built_have_to_be_there(fresh: Refreshes) -> None:
    run_id = fresh.request()
    assert refresh(run_id, fresh.services(GOOD), Cancellation()) is Status.FAILED
    assert fresh.run(run_id).error_kind == "shared_models_missing"


def test_a_killed_build_of_the_shared_models_leaves_no_session_when_others_may_build(fresh: Refreshes) -> None:
    run_id = fresh.request()
    going = fresh.start(run_id, fresh.services(SLEEPING, libraries=True, lease_ttl_seconds=1))
    fresh.until_told("started")
    assert fresh.sessions() == 1
    runs.cancel(fresh.ledger, run_id)
    assert going.wait() is Status.CANCELLED
    assert fresh.sessions() == 0
    assert fresh.lease("analytics_shared") == (None, 1, None)
