"""The shared refresh: when it is due, what becomes of a failure, who owns what it builds, and who waits for it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from kiket_worker.artifacts.reading import faults
from kiket_worker.dbt.bundle import core_bundle, shared_bundle
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.dbt.engine import Cancellation, Listener, Options, SharedModels
from kiket_worker.dbt.executable import ExecutableEngine
from kiket_worker.ledger import leases, shared_refreshes
from kiket_worker.ledger.runs import Run, Status
from kiket_worker.ledger.shared_refreshes import Freshness
from kiket_worker.refresh.pipeline import refresh
from tests.support import warm_dbt
from tests.support.dbt_scripts import until
from tests.support.installations import CONNECT, Installation
from tests.support.refreshes import Refreshes
from tests.support.tenants import KEYS, isolation_of, settings_of

SHARED = "analytics_shared"
DIGEST = shared_bundle(core_bundle()).digest

# Tells of each build of the shared models, and as whom; fails where the file `broken` is.
SCRIPT = (
    CONNECT
    + """
if is_shared:
    with (here / "builds").open("a") as file:
        file.write(os.environ["DBT_USER"] + "\\n")
    tell("arguments", json.dumps(arguments))
    if (here / "broken").exists():
        write({"results": [result("dim_dates", "error", "no such column\\n  LINE 1: secret of a row")]})
        sys.exit(1)
    connection = connect()
    connection.execute("create table if not exists analytics_shared.dim_dates (date_day date)")
    connection.execute("insert into analytics_shared.dim_dates values (now())")
    build("dim_dates")
else:
    build("a")
"""
)


@pytest.fixture
def refreshes(installation: Installation, tmp_path: Path) -> Refreshes:
    """With roles, and with nothing in the shared schema."""
    made = Refreshes.prepare(installation.database.url, installation.ledger, tmp_path, shared=False)
    made.execute("grant insert on public.audit to kiket_ledger")
    return made


@pytest.fixture
def old(refreshes: Refreshes, installation: Installation) -> Refreshes:
    """With shared models that were built a moment ago."""
    run = refreshed(refreshes, installation)
    assert run.status is Status.SUCCEEDED
    (refreshes.folder / "builds").unlink()
    return refreshes


def refreshed(refreshes: Refreshes, installation: Installation, script: str = SCRIPT) -> Run:
    run_id = refreshes.request()
    isolation = isolation_of(installation.ledger_url)
    refresh(run_id, refreshes.services(script, libraries=True, isolation=isolation), Cancellation())
    return refreshes.run(run_id)


def builds(refreshes: Refreshes) -> int:
    return len((refreshes.folder / "builds").read_text().splitlines()) if refreshes.has("builds") else 0


def history(refreshes: Refreshes) -> list[tuple[Any, ...]]:
    return refreshes.rows(
        "select outcome, error_kind, bundle_digest from kiket_analytics.shared_refreshes order by started_at"
    )


def events(refreshes: Refreshes, name: str) -> list[dict[str, Any]]:
    return [event for event in refreshes.events() if event["event"] == name]


# When.


@pytest.fixture(scope="module")
def module_installation(module_database: Any) -> Iterator[Installation]:
    with Installation.of(module_database) as made:
        yield made


def record(
    installation: Installation,
    outcome: str | None,
    *,
    began_hours_ago: float,
    digest: str = DIGEST,
    seconds: float = 60,
) -> None:
    error = "'broken', 'broken'" if outcome == "failed" else "null, null"
    installation.execute(
        "insert into kiket_analytics.shared_refreshes (schema_name, bundle_digest, lease_epoch, worker, started_at,"
        " finished_at, outcome, error_kind, error_message) select %s, %s, 1, 'test', at,"
        f" case when %s::text is not null then at + make_interval(secs => %s) end, %s, {error}"
        " from (select now() - make_interval(secs => 3600 * %s) as at) as began",
        *(SHARED, digest, outcome, seconds, outcome, began_hours_ago),
    )


FRESH = Freshness(is_built=True, is_due=False, tried_lately=False)
DUE = Freshness(is_built=True, is_due=True, tried_lately=False)
WAITING = Freshness(is_built=True, is_due=True, tried_lately=True)
NEVER = Freshness(is_built=False, is_due=True, tried_lately=False)


@pytest.mark.parametrize(
    ("tries", "expected"),
    [
        ([], NEVER),
        ([("succeeded", 1, DIGEST)], FRESH),
        ([("succeeded", 23.9, DIGEST)], FRESH),
        ([("succeeded", 24.1, DIGEST)], DUE),
        ([("succeeded", 1, "of another bundle")], DUE),
        ([("succeeded", 3, DIGEST), ("succeeded", 1, "of another bundle")], DUE),
        ([("succeeded", 3, "of another bundle"), ("succeeded", 1, DIGEST)], FRESH),
        ([("succeeded", 25, DIGEST), ("failed", 0.1, DIGEST)], WAITING),
        ([("succeeded", 25, DIGEST), ("failed", 1, DIGEST)], DUE),
        ([("succeeded", 25, DIGEST), ("failed", 0.1, "of another bundle")], DUE),
        ([("failed", 0.2, DIGEST), ("succeeded", 0.1, DIGEST)], FRESH),
        ([("failed", 0.1, DIGEST)], Freshness(is_built=False, is_due=True, tried_lately=True)),
        ([("succeeded", 25, DIGEST), (None, 0.1, DIGEST)], DUE),
        ([(None, 0.1, DIGEST)], NEVER),
    ],
)
def test_it_is_due_when_never_built_of_another_bundle_or_too_old_and_not_when_tried_lately(
    module_installation: Installation, tries: list[tuple[str | None, float, str]], expected: Freshness
) -> None:
    module_installation.execute("delete from kiket_analytics.shared_refreshes")
    for outcome, hours, digest in tries:
        record(module_installation, outcome, began_hours_ago=hours, digest=digest)
    record(module_installation, "succeeded", began_hours_ago=0)
    module_installation.execute(
        "update kiket_analytics.shared_refreshes set schema_name = 'other'"
        " where started_at > now() - interval '2 seconds'"
    )
    found = shared_refreshes.freshness(
        module_installation.ledger, SHARED, bundle_digest=DIGEST, interval_hours=24, retry_seconds=600
    )
    assert found == expected


def test_what_takes_long_to_fail_is_tried_lately_from_its_end(module_installation: Installation) -> None:
    module_installation.execute("delete from kiket_analytics.shared_refreshes")
    record(module_installation, "failed", began_hours_ago=2, seconds=2 * 3600 - 60)
    found = shared_refreshes.freshness(
        module_installation.ledger, SHARED, bundle_digest=DIGEST, interval_hours=24, retry_seconds=600
    )
    assert found.tried_lately


# What is built, and as whom.


def test_the_first_refresh_builds_them_as_a_role_of_their_own_and_later_ones_find_them(
    refreshes: Refreshes, installation: Installation
) -> None:
    run = refreshed(refreshes, installation)
    assert run.status is Status.SUCCEEDED
    assert (refreshes.folder / "builds").read_text() == f"{SHARED}\n"
    arguments = json.loads((refreshes.folder / "arguments").read_text())
    assert json.loads(arguments[arguments.index("--vars") + 1]) == {"shared_schema": SHARED}
    assert not any("select" in item or "exclude" in item for item in arguments)
    (row,) = refreshes.rows(
        "select refresh_id, artifacts_location, worker, finished_at >= started_at from kiket_analytics.shared_refreshes"
    )
    assert row[1:] == (refreshes.store.location(f"_shared/{row[0]}/1"), "here", True)
    assert history(refreshes) == [("succeeded", None, DIGEST)]
    assert list(faults(refreshes.store, f"_shared/{row[0]}/1")) == []
    index = json.loads(refreshes.store.get(f"_shared/{row[0]}/1/index.json"))
    assert (index["schema"], index["bundle_digest"]) == (SHARED, DIGEST)
    (event,) = events(refreshes, "shared.refreshed")
    assert (event["worker"], event["models"], event["artifacts"]) == ("here", 1, row[1])
    assert (refreshes.lease(SHARED) or [0])[0] is None

    assert refreshed(refreshes, installation).status is Status.SUCCEEDED
    assert builds(refreshes) == 1


def test_organisations_and_their_twins_read_them_and_change_nothing(old: Refreshes, installation: Installation) -> None:
    assert old.rows("select tableowner from pg_tables where schemaname = %s", SHARED) == [(SHARED,)]
    with installation.tenant("acme") as tenant, installation.reader("acme") as reader:
        for session in (tenant, reader):
            session.execute("set default_transaction_read_only = off")
            assert session.execute("select from analytics_shared.dim_dates").rowcount == 1
            for query in (
                "insert into analytics_shared.dim_dates values (now())",
                "delete from analytics_shared.dim_dates",
                "drop table analytics_shared.dim_dates",
                "create table analytics_shared.mine (a int)",
                "create view analytics_shared.mine as select 1",
                "alter schema analytics_shared rename to mine",
            ):
                with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)):
                    session.execute(query.encode())
            # Postgres only warns of a right that cannot be passed on.
            session.execute("grant select on analytics_shared.dim_dates to public")
    assert old.rows("select has_table_privilege('public', 'analytics_shared.dim_dates', 'select')") == [(False,)]


def test_their_role_sees_no_organisation(old: Refreshes, installation: Installation) -> None:
    with installation.connect(SHARED, KEYS.password(SHARED, 1)) as session:
        for query in (
            "select from analytics_raw.issues",
            "select from public.issues",
            "select from kiket_analytics.runs",
            "create table analytics_org_acme.t (a int)",
            "create schema other",
            "create table public.t (a int)",
            "set role analytics_org_acme",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(query.encode())


# Again.


def test_they_are_built_again_when_what_they_are_made_of_has_changed(
    old: Refreshes, installation: Installation
) -> None:
    old.execute("update kiket_analytics.shared_refreshes set bundle_digest = 'of an earlier release'")
    assert refreshed(old, installation).status is Status.SUCCEEDED
    assert builds(old) == 1
    assert [digest for _, _, digest in history(old)] == ["of an earlier release", DIGEST]


def test_they_are_built_again_when_their_interval_is_over(old: Refreshes, installation: Installation) -> None:
    old.execute("update kiket_analytics.shared_refreshes set started_at = started_at - interval '23 hours'")
    refreshed(old, installation)
    assert builds(old) == 0
    old.execute("update kiket_analytics.shared_refreshes set started_at = started_at - interval '1 hour'")
    refreshed(old, installation)
    assert builds(old) == 1


def test_they_are_built_again_when_somebody_has_dropped_them(old: Refreshes, installation: Installation) -> None:
    old.execute("drop table analytics_shared.dim_dates cascade")
    assert refreshed(old, installation).status is Status.SUCCEEDED
    assert builds(old) == 1


# Failures.


def test_a_failure_lets_organisations_go_on_with_those_of_the_last_time_and_is_not_repeated_at_once(
    old: Refreshes, installation: Installation
) -> None:
    old.execute("update kiket_analytics.shared_refreshes set bundle_digest = 'of an earlier release'")
    old.tell("broken")
    assert refreshed(old, installation).status is Status.SUCCEEDED
    assert history(old)[1:] == [("failed", "model_failed", DIGEST)]
    (event,) = events(old, "shared.failed")
    assert (event["error_kind"], event["level"], event["worker"]) == ("model_failed", "error", "here")
    assert event["artifacts"].startswith(old.store.location("_shared/"))
    assert "dim_dates" in event["error"]
    assert "secret of a row" not in old.log.getvalue()
    assert (old.lease(SHARED) or [0])[0] is None

    (old.folder / "broken").unlink()
    assert refreshed(old, installation).status is Status.SUCCEEDED
    assert builds(old) == 1, "it was tried a moment ago"
    old.execute("update kiket_analytics.shared_refreshes set finished_at = now() - interval '11 minutes'")
    assert refreshed(old, installation).status is Status.SUCCEEDED
    assert builds(old) == 2
    assert history(old)[-1] == ("succeeded", None, DIGEST)


def test_a_failure_where_there_are_none_fails_the_run_and_the_next_one_tries_again(
    refreshes: Refreshes, installation: Installation
) -> None:
    refreshes.tell("broken")
    run = refreshed(refreshes, installation)
    assert (run.status, run.error_kind) == (Status.FAILED, "model_failed")
    assert events(refreshes, "shared.failed") == []
    assert refreshes.usage() == []
    (refreshes.folder / "broken").unlink()
    assert refreshed(refreshes, installation).status is Status.SUCCEEDED
    assert [outcome for outcome, *_ in history(refreshes)] == ["failed", "succeeded"]


def test_a_dbt_that_cannot_be_run_is_written_down_too(old: Refreshes, installation: Installation) -> None:
    old.execute("update kiket_analytics.shared_refreshes set bundle_digest = 'of an earlier release'")
    run = refreshed(old, installation, "sys.exit('no results' if is_shared else build('a'))")
    assert run.status is Status.SUCCEEDED
    assert history(old)[1:] == [("failed", "dbt_no_results", DIGEST)]


# Others.


def test_a_refresh_goes_on_with_the_old_ones_while_another_worker_builds(
    old: Refreshes, installation: Installation
) -> None:
    old.execute("update kiket_analytics.shared_refreshes set bundle_digest = 'of an earlier release'")
    epoch = leases.acquire_schema(old.ledger, SHARED, worker="another", ttl_seconds=600)
    assert epoch is not None
    assert refreshed(old, installation).status is Status.SUCCEEDED
    assert builds(old) == 0
    assert (old.lease(SHARED) or [0])[:2] == ("another", epoch)


def test_the_first_refresh_waits_for_another_worker_that_builds_them(
    refreshes: Refreshes, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kiket_worker.refresh.shared._POLL_SECONDS", 0.02)
    epoch = leases.acquire_schema(refreshes.ledger, SHARED, worker="another", ttl_seconds=600)
    assert epoch is not None
    run_id = refreshes.request()
    isolation = isolation_of(installation.ledger_url)
    going = refreshes.start(run_id, refreshes.services(SCRIPT, libraries=True, isolation=isolation))
    until(lambda: refreshes.run(run_id).status is Status.RUNNING, "the run to be claimed")
    other = shared_refreshes.begin(refreshes.ledger, SHARED, bundle_digest=DIGEST, epoch=epoch, worker="another")
    assert going.thread.is_alive()
    refreshes.execute("create table analytics_shared.dim_dates (date_day date)")
    shared_refreshes.end(refreshes.ledger, other, None, "file:///x")
    assert going.wait() is Status.SUCCEEDED
    assert builds(refreshes) == 0


def test_what_a_killed_builder_has_left_is_ended_before_they_are_built_again(
    old: Refreshes, installation: Installation
) -> None:
    old.execute("update kiket_analytics.shared_refreshes set bundle_digest = 'of an earlier release'")
    with installation.connect(SHARED, KEYS.password(SHARED, 1), application_name="psql") as left:
        left.execute("begin")
        left.execute("lock table analytics_shared.dim_dates")
        assert refreshed(old, installation).status is Status.SUCCEEDED
        with pytest.raises(psycopg.OperationalError):
            left.execute("select 1")
    assert builds(old) == 1


# dbt itself.


def test_dbt_builds_the_laid_out_bundle_as_the_role_of_the_shared_schema(
    installation: Installation, tmp_path: Path
) -> None:
    isolation = isolation_of(installation.ledger_url)
    login = isolation.log_in_shared(installation.ledger, SHARED, 1)
    assert login is not None
    assert login.role == SHARED
    connection = DbtConnection.from_settings(settings_of(installation.ledger_url))
    (tmp_path / "run").mkdir()
    outcome = ExecutableEngine(warm_dbt.executable(), connection, time_limit_seconds=120).run(
        shared_bundle(core_bundle()).laid_out(tmp_path / "project"),
        SharedModels(SHARED, login.role, login.password),
        Options(tmp_path / "run", "kiket-run-test"),
        Listener(),
        Cancellation(),
    )
    assert outcome.failure is None
    assert [model.model_id for model in outcome.models] == ["model.kiket_analytics.dim_dates"]
    found = installation.rows("select tablename, tableowner from pg_tables where schemaname = %s", SHARED)
    assert found == [{"tablename": "dim_dates", "tableowner": SHARED}]
    candidate = installation.add()
    installation.provision(candidate)
    for session in (installation.tenant(candidate.slug), installation.reader(candidate.slug)):
        assert session.execute("select from analytics_shared.dim_dates").rowcount > 10_000
        session.close()
