"""What an organisation's sessions may take while dbt builds, enforced from outside, and where its models may be."""

import shutil
from pathlib import Path
from typing import Any

import psycopg
import pytest

from kiket_worker.dbt.bundle import Bundle, core_bundle
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.dbt.engine import Cancellation, Listener, Options, Tenant
from kiket_worker.dbt.executable import ExecutableEngine
from kiket_worker.ledger import runs
from kiket_worker.ledger.runs import Run, RunId, Status
from kiket_worker.refresh.pipeline import refresh
from kiket_worker.tenants.provisioning import Candidate
from tests.support import warm_dbt
from tests.support.dbt_scripts import until
from tests.support.installations import CONNECT, Installation
from tests.support.refreshes import Refreshes
from tests.support.tenants import KEYS, isolation_of, settings_of

ACME = Candidate(1, "acme")
SCHEMA = "analytics_org_acme"
# About as many megabytes as rows of a thousandth.
ROWS = "select repeat('x', 970) as filling from generate_series(1, {rows})"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker looks often, and gives a tenant's own time-outs less time to come first."""
    monkeypatch.setattr("kiket_worker.refresh.limits._INTERVAL_SECONDS", 0.1)
    monkeypatch.setattr("kiket_worker.tenants.isolation.PATIENCE_SECONDS", 0.2)


@pytest.fixture
def refreshes(installation: Installation, tmp_path: Path) -> Refreshes:
    made = Refreshes.prepare(installation.database.url, installation.ledger, tmp_path)
    made.execute("grant insert on public.audit to kiket_ledger")
    return made


def refreshed(refreshes: Refreshes, installation: Installation, script: str, **limits: object) -> Run:
    """A run of acme by a worker with these limits, as it has ended."""
    isolation = isolation_of(installation.ledger_url, **limits)
    run_id = refreshes.request()
    refresh(run_id, refreshes.services(CONNECT + script, libraries=True, isolation=isolation), Cancellation())
    return refreshes.run(run_id)


def told(refreshes: Refreshes, name: str) -> list[dict[str, Any]]:
    return [event for event in refreshes.events() if event["event"] == name]


def relations(installation: Installation) -> list[str]:
    found = installation.rows("select relname from pg_class where relnamespace = %s::regnamespace", SCHEMA)
    return [row["relname"] for row in found]


# As whom dbt connects.


def test_dbt_logs_in_as_the_organisation_whatever_it_calls_itself(
    refreshes: Refreshes, installation: Installation
) -> None:
    script = """
row = connect().execute(
    "select concat_ws(' ', session_user, current_user, current_schema(),"
    " (select count(*) from analytics_raw.projects))"
).fetchone()
tell("who", row[0])
tell("secrets", json.dumps(dict(os.environ)) + json.dumps(arguments))
build("a")
"""
    assert refreshed(refreshes, installation, script).status is Status.SUCCEEDED
    assert (refreshes.folder / "who").read_text() == f"{SCHEMA} {SCHEMA} {SCHEMA} 2"
    assert KEYS.password(SCHEMA, 1) not in (refreshes.folder / "secrets").read_text() + refreshes.log.getvalue()


def test_an_organisation_whose_role_is_too_powerful_never_reaches_dbt(
    refreshes: Refreshes, installation: Installation
) -> None:
    candidate = installation.add()
    installation.provision(candidate)
    role = f"analytics_org_{candidate.slug.replace('-', '_')}"
    installation.execute(f"alter role {role} bypassrls")
    services = refreshes.services("tell('reached')", isolation=isolation_of(installation.ledger_url))
    run_id = refreshes.request(candidate.slug)
    assert refresh(run_id, services, Cancellation()) is Status.FAILED
    run = refreshes.run(run_id)
    assert (run.error_kind, run.attempt) == ("tenant_not_isolated", 1)
    assert role in str(run.error_message)
    assert not refreshes.has("reached")


def test_sessions_are_ended_by_their_role_under_whatever_name_they_hide(
    refreshes: Refreshes, installation: Installation
) -> None:
    script = CONNECT + (
        "c = connect()\nc.execute(\"set application_name = 'psql'\")\nstart('a')\ntell('started')\n"
        "c.execute('select pg_sleep(600)')"
    )
    isolation = isolation_of(installation.ledger_url)
    run_id = refreshes.request()
    services = refreshes.services(script, libraries=True, isolation=isolation, lease_ttl_seconds=1)
    going = refreshes.start(run_id, services)
    refreshes.until_told("started")
    runs.cancel(installation.ledger, run_id)
    assert going.wait() is Status.CANCELLED
    assert installation.rows("select from pg_stat_activity where usename = %s", SCHEMA) == []


# Time.


@pytest.mark.parametrize(
    ("lifting", "work", "overrun", "words"),
    [
        (
            "set statement_timeout = 0",
            "c.execute('select pg_sleep(600)')",
            "statement",
            ["a statement ran for", "KIKET_TENANT_STATEMENT_SECONDS"],
        ),
        (
            "set idle_in_transaction_session_timeout = 0",
            "c.execute('begin')\nc.execute('select 1')\nhang()",
            "idle",
            ["a transaction idled for", "KIKET_TENANT_IDLE_SECONDS"],
        ),
    ],
    ids=["statement", "idle"],
)
def test_what_takes_too_long_is_ended_though_the_session_has_lifted_its_time_outs(
    refreshes: Refreshes, installation: Installation, lifting: str, work: str, overrun: str, words: list[str]
) -> None:
    script = f"c = connect()\nc.execute({lifting!r})\nstart('a')\ntell('lifted')\n{work}"
    limits = {"KIKET_TENANT_STATEMENT_SECONDS": 1, "KIKET_TENANT_IDLE_SECONDS": 1}
    run = refreshed(refreshes, installation, script, **limits)
    assert refreshes.has("lifted")
    assert (run.status, run.error_kind, run.attempt) == (Status.FAILED, "tenant_overran", 1)
    for word in (*words, SCHEMA):
        assert word in str(run.error_message)
    assert refreshes.statuses(run.run_id) == ["queued", "running", "failed"], "it is not tried again"
    (event,) = told(refreshes, "tenant.session_ended")
    assert (event["organization"], event["run_id"], event["overrun"]) == ("acme", str(run.run_id), overrun)
    assert 1 < event["duration_seconds"] < 20
    assert installation.rows("select from pg_stat_activity where usename = %s", SCHEMA) == []
    assert refreshes.usage() == []


def test_a_session_that_leaves_its_time_outs_alone_is_ended_by_them_with_a_better_message(
    refreshes: Refreshes, installation: Installation
) -> None:
    script = """
try:
    connect().execute("select pg_sleep(600)")
except psycopg.errors.QueryCanceled as fault:
    tell("said", str(fault))
build("a")
"""
    isolation = {"KIKET_TENANT_STATEMENT_SECONDS": 1}
    assert refreshed(refreshes, installation, script, **isolation).status is Status.SUCCEEDED
    assert "statement timeout" in (refreshes.folder / "said").read_text()


def test_idle_sessions_and_short_statements_are_left_alone(refreshes: Refreshes, installation: Installation) -> None:
    script = """
idle = connect()
idle.execute("select 1")
until = time.monotonic() + 1.6
while time.monotonic() < until:
    connect().execute("select pg_sleep(0.01)")
idle.execute("select 1")
build("a")
"""
    limits = {"KIKET_TENANT_STATEMENT_SECONDS": 1, "KIKET_TENANT_IDLE_SECONDS": 1}
    assert refreshed(refreshes, installation, script, **limits).status is Status.SUCCEEDED


# Room.


@pytest.mark.parametrize(
    ("rows", "status"), [(400, Status.SUCCEEDED), (1700, Status.FAILED)], ids=["within", "over the quota"]
)
def test_what_takes_too_much_room_in_the_end_fails_the_run(
    refreshes: Refreshes, installation: Installation, rows: int, status: Status
) -> None:
    """Less than twice the quota: dbt keeps an old relation beside the new one while it builds."""
    script = f'connect().execute("create table big as {ROWS.format(rows=rows)}")\nbuild("a")'
    run = refreshed(refreshes, installation, script, KIKET_TENANT_QUOTA_MEGABYTES=1)
    assert run.status is status
    events = told(refreshes, "tenant.quota_exceeded")
    if status is Status.SUCCEEDED:
        assert events == []
        return
    assert (run.error_kind, run.attempt) == ("quota_exceeded", 1)
    for word in (SCHEMA, "KIKET_TENANT_QUOTA_MEGABYTES"):
        assert word in str(run.error_message)
    (event,) = events
    assert (event["organization"], event["quota_bytes"]) == ("acme", 2**20)
    assert 2**20 < event["bytes"] < 2 * 2**20
    assert refreshes.usage() == []
    assert refreshes.faults(run.run_id) == [], "what dbt left is archived as evidence"


@pytest.mark.parametrize("kind", ["table", "temporary table", "materialized view", "table in pieces"])
def test_what_takes_far_too_much_room_is_ended_while_it_builds(
    refreshes: Refreshes, installation: Installation, kind: str
) -> None:
    rows = ROWS.format(rows=4000)
    create = {
        "table in pieces": f"create table part_0 as {rows}; create table part_1 as {ROWS.format(rows=10)}",
    }.get(kind, f"create {kind} big as {rows}")
    script = f"c = connect()\nc.execute({create!r})\nstart('a')\ntell('built')\nhang()"
    run = refreshed(refreshes, installation, script, KIKET_TENANT_QUOTA_MEGABYTES=1)
    assert (run.status, run.error_kind, run.attempt) == (Status.FAILED, "quota_exceeded", 1)
    assert len(told(refreshes, "tenant.quota_exceeded")) == 1


def test_what_others_have_does_not_count(refreshes: Refreshes, installation: Installation) -> None:
    other = installation.add()
    installation.provision(other)
    with installation.tenant(other.slug) as session:
        session.execute(f"create table big as {ROWS.format(rows=4000)}".encode())
    assert refreshed(refreshes, installation, "build('a')", KIKET_TENANT_QUOTA_MEGABYTES=1).status is Status.SUCCEEDED


def test_a_relation_that_dbt_has_locked_does_not_stop_the_run(refreshes: Refreshes, installation: Installation) -> None:
    script = CONNECT + (
        "c = connect()\nc.execute('create table a (n int)')\nc.execute('begin')\n"
        "c.execute('lock table a in access exclusive mode')\nstart('a')\ntell('locked')\nwait_for('go')\n"
        "c.execute('commit')\nbuild('a')"
    )
    isolation = isolation_of(installation.ledger_url)
    run_id: RunId = refreshes.request()
    going = refreshes.start(run_id, refreshes.services(script, libraries=True, isolation=isolation))
    refreshes.until_told("locked")
    waiting = "select pid from pg_locks where not granted and relation = 'analytics_org_acme.a'::regclass and %s"

    def waits() -> bool:
        return bool(installation.rows(waiting, True))

    until(waits, "the worker to wait for the relation")
    until(lambda: not waits(), "it to have enough of waiting")
    until(waits, "it to look again")
    refreshes.tell("go")
    assert going.wait() is Status.SUCCEEDED


# Connections and temporary files.


def test_connections_are_limited_for_each_login_alone(installation: Installation) -> None:
    first, second = installation.add(), installation.add()
    for candidate in (first, second):
        installation.provision(candidate, KIKET_TENANT_CONNECTIONS=3)
    held = [installation.tenant(first.slug) for _ in range(3)]
    with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
        installation.tenant(first.slug)
    for other in (installation.reader(first.slug), installation.tenant(second.slug), *held):
        other.close()


def test_the_limit_on_temporary_files_holds_and_cannot_be_lifted(installation: Installation) -> None:
    candidate = installation.add()
    installation.provision(candidate, KIKET_TENANT_TEMP_MEGABYTES=1)
    with installation.tenant(candidate.slug) as session, installation.reader(candidate.slug) as reader:
        for one in (session, reader):
            one.execute("set default_transaction_read_only = off")
            for query in (
                "set temp_file_limit = -1",
                "select set_config('temp_file_limit', '-1', false)",
                "alter role current_user set temp_file_limit = -1",
                "do $$ begin set local temp_file_limit = -1; end $$",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    one.execute(query.encode())
            one.execute("set work_mem = '64kB'")
            with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="temp_file_limit"):
                one.execute("select count(*) from (select n from generate_series(1, 300000) as n order by n) as x")
        session.execute("reset all")
        assert session.execute("show temp_file_limit").fetchone() == {"temp_file_limit": "1MB"}


# Where models may be.


def leaky_project(folder: Path) -> Bundle:
    """The core project with a macro that heeds a model's own schema, and a model that names one."""
    shutil.copytree(core_bundle().project_dir, folder, ignore=shutil.ignore_patterns("target", "logs"))
    macros = folder / "macros" / "schemas.sql"
    strict = "{{ organization_schema() }}"
    assert strict in macros.read_text()
    macros.write_text(macros.read_text().replace(strict, "{{ custom_schema_name or organization_schema() }}", 1))
    model = "{{ config(schema='public', contract={'enforced': false}) }} select 1 as a"
    (folder / "models" / "marts" / "leak.sql").write_text(model)
    return Bundle(folder)


def test_dbt_stops_before_its_first_statement_where_a_model_is_configured_into_another_schema(
    installation: Installation, tmp_path: Path
) -> None:
    settings = settings_of(installation.ledger_url)
    login = isolation_of(installation.ledger_url).log_in(installation.ledger, ACME, SCHEMA, installation.lease(ACME))
    assert login is not None
    installation.execute("grant create on schema public to public")  # Nothing but dbt itself stands in the way.
    (tmp_path / "run").mkdir()
    connection = DbtConnection.from_settings(settings)
    outcome = ExecutableEngine(warm_dbt.executable(), connection, time_limit_seconds=120).run(
        leaky_project(tmp_path / "project"),
        Tenant(1, "acme", SCHEMA, "analytics_shared", "analytics_raw", "analytics_raw", login.role, login.password),
        Options(tmp_path / "run", "kiket-run-test", selection=("stg_projects", "leak"), exclusion=("tag:shared",)),
        Listener(),
        Cancellation(),
    )
    assert outcome.failure is not None
    assert outcome.failure.kind == "schema_forbidden", outcome.failure
    assert "model.kiket_analytics.leak in public" in str(outcome.failure)
    log = outcome.files["dbt.log"].read_text()
    assert "leak would be built in schema public, and only analytics_org_acme belongs to this run" in log
    assert relations(installation) == []
    assert installation.rows("select to_regclass('public.leak') as found") == [{"found": None}]
