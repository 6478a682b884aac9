"""The roles of the installation: who may do what, setting them up again, and what is lent by functions."""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import product
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from kiket_worker.errors import InvalidSetting, LedgerForbidden, LedgerNotMigrated, RolesNotSetUp
from kiket_worker.ledger import attempts, claims, organizations, runs, usage
from kiket_worker.ledger.claims import Claim
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.level import check_level
from kiket_worker.ledger.outbox import Waiting
from kiket_worker.ledger.runs import Request, RunModel, Status
from kiket_worker.schedule.ticker import tick
from kiket_worker.tenants import roles
from kiket_worker.tenants.gates import Gate, load_gates
from kiket_worker.tenants.schema import schema_name
from kiket_worker.tenants.sessions import end_overrunning_sessions, end_tenant_sessions
from tests.support.dbt_scripts import until
from tests.support.installations import Installation, catalogs
from tests.support.sessions import lives

GATES = load_gates(None)
Session = psycopg.Connection[Any]


def set_up(url: str, gates: tuple[Gate, ...] = GATES, shared_schema: str = "analytics_shared") -> roles.RolesSetUp:
    return roles.set_up(url, gates, shared_schema=shared_schema)


def as_role(database: Any, role: str, password: str) -> Session:
    url = database.url.replace("//postgres@", f"//{role}:{password}@")
    return psycopg.connect(url, autocommit=True, row_factory=dict_row)


@pytest.fixture
def login(database: Any) -> Iterator[str]:
    """A login of the platform's, from before roles are set up. Its password is `secret`."""
    name = f"platform_{uuid4().hex[:8]}"
    database.execute(f"create role {name} login password 'secret'")
    yield name
    database.execute(f"drop owned by {name} cascade")
    database.execute(f"drop role {name}")


@pytest.fixture
def ledger_session(installation: Installation) -> Iterator[Session]:
    with psycopg.connect(installation.ledger_url, autocommit=True, row_factory=dict_row) as session:
        yield session


# Setting up.


def test_setting_up_roles_again_changes_nothing(database: Any) -> None:
    first = set_up(database.url)
    assert first.gates == tuple(gate.name for gate in GATES)
    assert first.absent == ()
    before = catalogs(database)
    assert before[-3], "the snapshot sees the gates"
    assert set_up(database.url) == first
    assert catalogs(database) == before


def test_setting_up_roles_mends_what_somebody_has_changed(database: Any) -> None:
    set_up(database.url)
    before = catalogs(database)
    database.execute("alter role kiket_metrics connection limit -1")
    database.execute("revoke select on kiket_analytics.runs from kiket_ledger")
    database.execute("revoke execute on function kiket_analytics.drop_tenant(text) from kiket_ledger")
    database.execute("grant usage on schema public to public")
    database.execute("alter function analytics_raw.session_organization_id() owner to postgres")
    assert catalogs(database) != before
    set_up(database.url)
    after = catalogs(database)
    for one, other in zip(before, after, strict=True):
        assert one == other


def test_several_at_once_set_up_the_same(database: Any) -> None:
    together = threading.Barrier(4)

    def go() -> roles.RolesSetUp:
        together.wait(30)
        return set_up(database.url)

    with ThreadPoolExecutor(4) as pool:
        done = [future.result(60) for future in [pool.submit(go) for _ in range(4)]]
    assert len(set(done)) == 1
    before = catalogs(database)
    set_up(database.url)
    assert catalogs(database) == before


@pytest.mark.parametrize("rights", ["none", "many"])
def test_a_login_that_is_no_superuser_is_told_so_and_nothing_is_half_done(
    database: Any, login: str, rights: str
) -> None:
    if rights == "many":
        database.execute(f"alter role {login} createrole createdb")
        database.execute(f"grant all on all tables in schema kiket_analytics to {login}")
        database.execute(f"grant all on schema kiket_analytics, public to {login}")
        (row,) = database.rows("select current_database() as name")
        database.execute(f"grant all on database {row['name']} to {login}")
    before = catalogs(database)
    with pytest.raises(LedgerForbidden, match="superuser" if rights == "many" else "lacks a right"):
        set_up(database.url.replace("//postgres@", f"//{login}:secret@"))
    assert catalogs(database) == before


def test_before_the_ledgers_tables_there_are_no_roles_to_set_up(empty_database: Any) -> None:
    with pytest.raises(LedgerNotMigrated, match="kiket-worker migrate"):
        set_up(empty_database.url)
    assert empty_database.rows("select from pg_namespace where nspname = 'analytics_raw'") == []


def test_a_gate_that_cannot_be_made_leaves_nothing_of_all(database: Any) -> None:
    before = catalogs(database)
    gate = Gate("issues", "public", "issues", (), "no_such_column", ("id",), False)
    with pytest.raises(InvalidSetting, match=r"the gate issues has to read no_such_column of public\.issues"):
        set_up(database.url, (gate,))
    assert catalogs(database) == before


def test_the_shared_schema_and_its_role_are_called_as_the_setting_says(database: Any) -> None:
    name = f"common_{uuid4().hex[:8]}"
    set_up(database.url, shared_schema=name)
    try:
        (row,) = database.rows("select nspowner::regrole::text as owner from pg_namespace where nspname = %s", name)
        assert row == {"owner": name}
        (row,) = database.rows("select rolcanlogin, rolsuper from pg_roles where rolname = %s", name)
        assert row == {"rolcanlogin": True, "rolsuper": False}
        (row,) = database.rows("select has_schema_privilege('analytics_tenants', %s, 'usage') as may", name)
        assert row == {"may": True}
        with Database(database.url) as ledger, ledger.transaction() as connection:
            assert end_tenant_sessions(connection, name) == 0
            with pytest.raises(psycopg.errors.UndefinedObject):
                end_tenant_sessions(connection, "analytics_shared")
    finally:
        with database.connect() as connection:
            connection.execute(f"drop owned by {name} cascade; drop role {name}".encode())


# What PUBLIC had.


def test_logins_of_before_keep_by_name_what_public_loses(database: Any, login: str) -> None:
    set_up(database.url)
    with as_role(database, login, "secret") as session:
        session.execute("create temporary table t (a int)")
        assert session.execute("select to_regclass('public.issues')::text as name").fetchone() == {"name": "issues"}
        session.execute("select lo_create(0)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("create table public.t (a int)")
    assert database.rows(
        "select has_database_privilege('public', current_database(), 'connect') as connect,"
        " has_database_privilege('public', current_database(), 'temporary') as temporary,"
        " has_schema_privilege('public', 'public', 'usage') as usage,"
        " has_schema_privilege('public', 'public', 'create') as create,"
        " has_function_privilege('public', 'lo_creat(integer)', 'execute')"
        " or has_function_privilege('public', 'lo_create(oid)', 'execute')"
        " or has_function_privilege('public', 'lo_from_bytea(oid, bytea)', 'execute') as large_objects"
    ) == [{"connect": False, "temporary": False, "usage": False, "create": False, "large_objects": False}]


def test_a_login_that_could_create_in_public_still_can(database: Any, login: str) -> None:
    database.execute("grant create on schema public to public")
    set_up(database.url)
    with as_role(database, login, "secret") as session:
        session.execute("create table public.of_the_platform (a int)")


def test_a_login_of_later_has_nothing_that_it_was_not_given(database: Any) -> None:
    set_up(database.url)
    name = f"later_{uuid4().hex[:8]}"
    database.execute(f"create role {name} login password 'secret'")
    try:
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            as_role(database, name, "secret")
    finally:
        database.execute(f"drop role {name}")


# kiket_ledger.


def test_the_workers_login_does_all_that_the_worker_does_in_the_ledger(installation: Installation) -> None:
    ledger = installation.ledger
    check_level(ledger)
    roles.check(ledger)
    published: list[Waiting] = []
    tick(ledger, published.append, now=datetime.now(UTC), republish_after_seconds=900)
    assert len(published) == 4
    organizations.save_settings(ledger, 1, enabled=True, refresh_interval_hours=3)
    run_id = runs.request(ledger, Request(1, "acme", idempotency_key="k")).run_id
    taken = claims.claim(
        ledger,
        run_id,
        worker="w",
        ttl_seconds=60,
        schema_name=schema_name,
        end_sessions=lambda connection, _, schema: end_tenant_sessions(connection, schema),
    )
    assert isinstance(taken, Claim)
    attempts.begin_models(ledger, taken)
    attempts.record_model(ledger, taken, RunModel("model.kiket.a", "success", 1.0, 1))
    with ledger.transaction() as connection:
        attempts.renew(connection, taken, 60)
    attempts.mark_built(ledger, taken)
    attempts.mark_archived(ledger, taken, location="file:///x", index_sha256="a" * 64)
    run, usage_events = attempts.succeed(ledger, taken)
    assert (run.status, usage_events) == (Status.SUCCEEDED, 1)
    waiting = runs.request(ledger, Request(2, "blue-harbor")).run_id
    assert runs.cancel(ledger, waiting) is Status.CANCELLED
    assert [day.quantity for day in usage.daily(ledger, 1, start_at=None, end_at=None)] == [1]


REFUSED = [
    "delete from kiket_analytics.runs",
    "truncate kiket_analytics.runs",
    "delete from kiket_analytics.leases",
    "delete from kiket_analytics.attempts",
    "delete from kiket_analytics.analytics_settings",
    "update kiket_analytics.usage_events set quantity = 0",
    "delete from kiket_analytics.usage_events",
    "update kiket_analytics.run_requests set idempotency_key = 'x'",
    "delete from kiket_analytics.run_requests",
    "update kiket_analytics.changelog_evaluations set summary = 'x'",
    "delete from kiket_analytics.changelog_evaluations",
    "delete from kiket_analytics.changelog_turn",
    "select version from public.releases",
    "update public.releases set changelog = 'x'",
    "insert into kiket_analytics.tenants values ('x', 'y', 1, 1, 1)",
    "update kiket_analytics.tenants set organization_id = 2",
    "delete from kiket_analytics.tenants",
    "update kiket_analytics.gates set source = ''",
    "update kiket_analytics.roles set level = 0",
    "select from public.issues",
    "select title from public.issues",
    "select name from public.users",
    "select created_at from public.organizations",
    "insert into public.organizations values (99, 'x', 'x', 'team', now())",
    "update public.organizations set plan = 'enterprise'",
    "create role somebody",
    "create schema somewhere",
    "create table public.t (a int)",
    "create table kiket_analytics.t (a int)",
    "create database other",
    "alter role kiket_metrics password 'x'",
    "alter role kiket_provisioner login",
    "set role kiket_provisioner",
    "set role kiket_warden",
    "set role analytics_gates",
    "set role analytics_tenants",
    "grant analytics_tenants to kiket_ledger",
    "select rolpassword from pg_authid",
    "select from analytics_raw.issues",
    "select analytics_raw.session_organization_id()",
    "create view analytics_raw.v as select 1",
    "select from analytics_shared.of_all",
    "select kiket_analytics.set_up_login('kiket_ledger', 'x', 1, '{}', 'analytics_tenants')",
    "select kiket_analytics.names_of_tenant('analytics_org_acme', true)",
    "select lo_create(0)",
]


def allowed(session: Session, queries: Iterable[str]) -> list[str]:
    """Those of the statements that are not refused for want of a right."""
    found = []
    for query in queries:
        try:
            session.execute(query.encode())
        except psycopg.errors.InsufficientPrivilege:
            continue
        found.append(query)
    return found


def test_the_workers_login_can_do_no_more(ledger_session: Session, installation: Installation) -> None:
    installation.execute("create table analytics_shared.of_all (a int)")
    assert allowed(ledger_session, REFUSED) == []


def test_the_workers_login_cannot_read_or_become_a_tenant_nor_end_anybody_else(
    installation: Installation, ledger_session: Session
) -> None:
    candidate = installation.add()
    installation.provision(candidate)
    schema = schema_name(candidate.slug)
    with installation.tenant(candidate.slug) as session:
        session.execute("create table secrets as select 1 as a")
        with installation.database.connect() as superuser:
            queries = [
                f"select from {schema}.secrets",
                f"create table {schema}.t (a int)",
                f"set role {schema}",
                f"alter role {schema} password 'x'",
                f"drop role {schema}",
                f"drop schema {schema} cascade",
                f"grant {schema} to kiket_ledger",
                f"select pg_terminate_backend({session.info.backend_pid})",
                f"select pg_terminate_backend({superuser.info.backend_pid})",
            ]
            assert allowed(ledger_session, queries) == []
        assert lives(session)


# The others.


def test_metrics_are_read_and_nothing_else(installation: Installation) -> None:
    readable = ("analytics_settings", "runs", "leases", "attempts", "run_models", "shared_refreshes", "tenants")
    hidden = ("usage_events", "run_requests", "gates", "roles", "ticker")
    installation.execute("alter role kiket_metrics password 'metrics'")
    with installation.connect("kiket_metrics", "metrics") as session:
        for table in readable:
            session.execute(f"select * from kiket_analytics.{table}".encode())
        session.execute("select id, slug, plan from public.organizations")
        queries = [f"select from kiket_analytics.{table}" for table in hidden]
        queries += [f"insert into kiket_analytics.{table} default values" for table in readable + hidden]
        queries += [f"delete from kiket_analytics.{table}" for table in readable + hidden]
        queries += [
            "update kiket_analytics.runs set status = 'failed'",
            "update kiket_analytics.analytics_settings set enabled = false",
            "select name from public.organizations",
            "select id from public.issues",
            "select from analytics_raw.issues",
            "select kiket_analytics.drop_tenant('analytics_org_acme')",
            "select kiket_analytics.end_tenant_sessions('analytics_org_acme')",
            "select kiket_analytics.end_overrunning_sessions('analytics_org_acme', 0, 0)",
            "select kiket_analytics.end_unattended_sessions(0, 0)",
            "create temporary table t (a int)",
            "create table public.t (a int)",
        ]
        assert allowed(session, queries) == []
    installation.execute("alter role kiket_metrics password null")


LENDING = ["kiket_provisioner", "kiket_warden", "analytics_gates"]


def test_nobody_logs_in_or_acts_as_a_role_that_lends_its_rights(installation: Installation) -> None:
    for role in (*LENDING, "analytics_tenants", "analytics_readers"):
        installation.execute(f"alter role {role} password 'guessed'")
        with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
            installation.connect(role, "guessed")
        installation.execute(f"alter role {role} password null")
    installation.provision(installation.add())
    assert installation.rows("select from pg_auth_members where roleid::regrole::text = any (%s)", LENDING) == []
    # The groups give rights to their members, and let nobody but the provisioner give membership away.
    members = installation.rows(
        "select member::regrole::text as name from pg_auth_members"
        " where roleid::regrole::text in ('analytics_tenants', 'analytics_readers') and (set_option or admin_option)"
    )
    assert {row["name"] for row in members} == {"kiket_provisioner"}


def test_no_function_that_lends_rights_can_be_led_astray_or_called_by_everybody(installation: Installation) -> None:
    lending = installation.rows(
        "select oid::regprocedure::text as name, proconfig, has_function_privilege('public', oid, 'execute') as open,"
        " has_function_privilege('analytics_tenants', oid, 'execute') as to_tenants, proowner::regrole::text as owner"
        " from pg_proc where pronamespace in ('kiket_analytics'::regnamespace, 'analytics_raw'::regnamespace)"
        " and prosecdef"
    )
    assert len(lending) == 11
    # As the superuser who has installed it: what makes and gives away a role of a tenant, and nothing else.
    assert {function["name"] for function in lending if function["owner"] == "postgres"} == {
        "kiket_analytics.hold_login(text)",
        "kiket_analytics.release_login(text)",
    }
    for function in lending:
        assert function["proconfig"][0] == "search_path=pg_catalog, pg_temp", function
        assert not function["open"], function
        assert function["owner"] in {"kiket_provisioner", "kiket_warden", "analytics_gates", "postgres"}
        assert function["to_tenants"] is (function["name"] == "analytics_raw.session_organization_id()")


NO_TENANTS = [
    *("postgres", "kiket_ledger", "analytics_tenants", "analytics_shared", "analytics_org_", "analytics_org_a_", ""),
    *(
        "analytics_org_Acme",
        "analytics_org_a b",
        'analytics_org_a"; drop table x; --',
        f"analytics_org_{'a' * 50}",
        None,
    ),
]


@pytest.mark.parametrize("name", NO_TENANTS)
def test_no_role_but_a_tenants_can_be_held(installation: Installation, name: str | None) -> None:
    with installation.database.connect() as connection:
        connection.execute("set role kiket_provisioner")
        with pytest.raises((psycopg.errors.InvalidName, psycopg.errors.NullValueNotAllowed)):
            connection.execute("select kiket_analytics.hold_login(%s)", [name])
        if name is None or len(name) < 60:
            with pytest.raises((psycopg.errors.InvalidName, psycopg.errors.NullValueNotAllowed)):
                connection.execute("select kiket_analytics.release_login(%s)", [name])


def test_between_two_calls_the_provisioner_holds_nobody(installation: Installation) -> None:
    """Or else each change of a membership would cost it a look at all tenants."""
    candidate = installation.add()
    installation.provision(candidate)
    installation.execute(f"alter role {schema_name(candidate.slug)} set role = 'kiket_ledger'")
    installation.provision(candidate)
    held = installation.rows(
        "select roleid::regrole::text as name from pg_auth_members where member = 'kiket_provisioner'::regrole"
    )
    assert {row["name"] for row in held} == {"analytics_tenants", "analytics_readers", "analytics_shared"}


# Ending sessions.

STRANGERS = [
    *("postgres", "kiket_ledger", "kiket_metrics", "kiket_provisioner", "analytics_gates", "analytics_tenants"),
    *("analytics_ro_acme", "analytics_raw", "public", "kiket_analytics", "", "analytics_org_", "analytics_org_Acme"),
    *("analytics_org_acme-b", "analytics_org__", "analytics_org_a%", f"analytics_org_{'a' * 50}", None),
]


def test_sessions_are_ended_by_the_name_of_a_tenant_only(ledger_session: Session) -> None:
    queries = (
        "select kiket_analytics.end_tenant_sessions(%s)",
        "select kiket_analytics.end_tenant_sessions(%s, true)",
        "select * from kiket_analytics.end_overrunning_sessions(%s, 0, 0)",
    )
    for query, name in product(queries, STRANGERS):
        with pytest.raises(psycopg.errors.UndefinedObject, match="no tenant's schema"):
            ledger_session.execute(query.encode(), [name])


@pytest.fixture
def two(installation: Installation) -> tuple[str, str]:
    """Two organisations with roles, of which one's slug begins with the other's."""
    first = installation.add()
    second = installation.add(f"{first.slug}-2")
    for candidate in (first, second):
        installation.provision(candidate)
    return first.slug, second.slug


def test_every_session_of_a_tenant_is_ended_and_nobody_elses(installation: Installation, two: tuple[str, str]) -> None:
    slug, other = two
    own = [installation.tenant(slug) for _ in range(3)]
    own[1].execute("set application_name = 'psql'")
    own[2].execute("begin")
    strangers = [installation.reader(slug), installation.tenant(other), installation.database.connect()]
    with installation.ledger.transaction() as connection:
        assert end_tenant_sessions(connection, schema_name(slug)) == 3
        assert end_tenant_sessions(connection, schema_name(slug)) == 0
        assert [lives(session) for session in own] == [False] * 3
        assert [lives(session) for session in strangers] == [True] * 3
        again = connection.execute("select kiket_analytics.end_tenant_sessions(%s, true) as ended", [schema_name(slug)])
        assert again.fetchone() == {"ended": 1}
    assert [lives(session) for session in strangers] == [False, True, True]
    for session in (*own, *strangers):
        session.close()


def test_only_what_overran_is_ended_and_only_of_this_tenant(installation: Installation, two: tuple[str, str]) -> None:
    """It once ended every session of the server: the function was called before the rows were chosen."""
    slug, other = two
    schema = schema_name(slug)
    idle, open_, aborted, reading = [*(installation.tenant(slug) for _ in range(3)), installation.reader(slug)]
    strangers = [
        installation.tenant(other),
        installation.reader(other),
        installation.database.connect(),
        psycopg.connect(installation.ledger_url, autocommit=True, row_factory=dict_row),
    ]
    for session in (open_, aborted, reading, *strangers):
        session.execute("begin")
        session.execute("select 1")
    with pytest.raises(psycopg.errors.DivisionByZero):
        aborted.execute("select 1 / 0")
    working = installation.tenant(slug)
    with ThreadPoolExecutor(1) as pool:
        statement = pool.submit(working.execute, "select pg_sleep(600)")

        def seen() -> bool:
            rows = installation.rows(
                "select state, now() - least(query_start, state_change) > interval '0.1 s' as is_old"
                " from pg_stat_activity where usename in (%s, %s)",
                schema,
                schema.replace("_org_", "_ro_"),
            )
            states = sorted(row["state"] for row in rows)
            return all(row["is_old"] for row in rows) and states == [
                *("active", "idle", "idle in transaction", "idle in transaction", "idle in transaction (aborted)"),
            ]

        until(seen, "five sessions that are a tenth of a second old")
        with installation.ledger.transaction() as connection:
            patient = end_overrunning_sessions(connection, schema, statement_seconds=3600, idle_seconds=3600)
            assert patient == []
            overruns = end_overrunning_sessions(connection, schema, statement_seconds=3600, idle_seconds=0.05)
            assert [overrun.kind for overrun in overruns] == ["idle"] * 3
            overruns = end_overrunning_sessions(connection, schema, statement_seconds=0.05, idle_seconds=3600)
            assert [overrun.kind for overrun in overruns] == ["statement"]
            assert 0.05 < overruns[0].seconds < 60
        with pytest.raises(psycopg.OperationalError):
            statement.result(10)
    until(lambda: not lives(open_) and not lives(reading), "the sessions to end")
    assert not lives(aborted)
    assert lives(idle)
    assert [lives(session) for session in strangers] == [True] * 4
    for session in (idle, open_, aborted, reading, working, *strangers):
        session.close()


# What code asks before it begins.


def test_roles_that_were_never_set_up_are_said_with_the_remedy(database: Any) -> None:
    with Database(database.url) as ledger, pytest.raises(RolesNotSetUp) as caught:
        roles.check(ledger)
    for word in ("kiket-worker migrate --roles", "superuser", "KIKET_ISOLATION=shared"):
        assert word in str(caught.value)


@pytest.mark.parametrize(("level", "suffices"), [(roles.LEVEL - 1, False), (roles.LEVEL, True), (99, True)])
def test_an_older_level_is_not_enough_and_a_later_one_is(
    installation: Installation, level: int, suffices: bool
) -> None:
    installation.execute("update kiket_analytics.roles set level = %s", level)
    if suffices:
        roles.check(installation.ledger)
    else:
        with pytest.raises(RolesNotSetUp):
            roles.check(installation.ledger)


def test_what_is_set_up_is_of_the_level_that_code_asks_for(installation: Installation) -> None:
    assert installation.rows("select level from kiket_analytics.roles") == [{"level": roles.LEVEL}]
