"""Provisioning in a real database: made, mended, refused, given new keys and dropped, alone and many at once."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from random import Random
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from kiket_worker.dbt.engine import Cancellation
from kiket_worker.errors import (
    InvalidSlug,
    KiketError,
    SchemaTaken,
    TenantBusy,
    TenantLoginFailed,
    TenantNotIsolated,
    UnknownOrganization,
    UnknownTenant,
)
from kiket_worker.ledger import attempts, claims, runs
from kiket_worker.ledger.claims import Claim
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.runs import Request, RunModel, Status
from kiket_worker.refresh.pipeline import refresh
from kiket_worker.tenants import provisioning
from kiket_worker.tenants.keys import TenantKeys
from kiket_worker.tenants.provisioning import Candidate, Provisioned, Rotated
from kiket_worker.tenants.schema import reader_name, schema_name
from tests.support.installations import CONNECT, Installation, catalogs
from tests.support.refreshes import Refreshes
from tests.support.tenants import KEYS, isolation_of

SECRET = dict(KEYS.secrets)[1]
NEWER = TenantKeys({1: SECRET, 2: "another-secret-of-the-tests-with-enough-characters"})
NEWEST_ONLY = TenantKeys({2: NEWER.secrets[2]})
NEWER_VARIABLE = ",".join(f"{version}:{secret}" for version, secret in NEWER.secrets.items())


def can_log_in(installation: Installation, role: str, password: str) -> bool:
    try:
        installation.connect(role, password).close()
    except psycopg.OperationalError as fault:
        if "password authentication failed" not in str(fault):
            raise
        return False
    return True


def roles_of(candidate: Candidate) -> tuple[str, str]:
    return schema_name(candidate.slug), reader_name(candidate.slug)


def version_of(installation: Installation, candidate: Candidate) -> int:
    (row,) = installation.rows(
        "select key_version from kiket_analytics.tenants where schema_name = %s", schema_name(candidate.slug)
    )
    return int(row["key_version"])


@pytest.fixture
def fresh(installation: Installation) -> Candidate:
    """An organisation that was never provisioned."""
    return installation.add()


@pytest.fixture
def tenant(installation: Installation, fresh: Candidate) -> Candidate:
    """An organisation that is provisioned."""
    installation.provision(fresh)
    return fresh


# Fresh.


def test_a_fresh_organisation_gets_a_schema_a_role_and_a_twin(installation: Installation, fresh: Candidate) -> None:
    assert installation.drift(fresh) == {"registration", "role", "login", "settings", "membership", "schema"}
    installation.provision(fresh)
    assert installation.drift(fresh) == set()
    schema, reader = roles_of(fresh)
    (row,) = installation.rows("select * from kiket_analytics.tenants where schema_name = %s", schema)
    assert (row["reader_name"], row["organization_id"], row["key_version"]) == (reader, fresh.organization_id, 1)
    with installation.tenant(fresh.slug) as session:
        session.execute("create table numbers as select 1 as n")
        session.execute("create view more as select n from numbers")
        session.execute("create temporary table t (a int)")
        assert session.execute("select schemaname as name from pg_tables where tablename = 'numbers'").fetchall() == [
            {"name": schema}
        ]
        assert session.execute("show temp_file_limit").fetchone() == {"temp_file_limit": "2GB"}
    with installation.reader(fresh.slug) as session:
        assert session.execute("select * from more").fetchall() == [{"n": 1}]
        for query in ("insert into numbers values (2)", "drop view more", "create table t (a int)"):
            with pytest.raises((psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.InsufficientPrivilege)):
                session.execute(query.encode())
        session.execute("set default_transaction_read_only = off")
        for query in ("insert into numbers values (2)", "drop view more", "create table t (a int)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(query.encode())


def test_a_role_logs_in_with_its_own_password_only(installation: Installation, tenant: Candidate) -> None:
    schema, reader = roles_of(tenant)
    for role in (schema, reader):
        assert can_log_in(installation, role, KEYS.password(role, 1))
        for wrong in (
            KEYS.password(reader if role == schema else schema, 1),
            NEWER.password(role, 2),
            TenantKeys({1: NEWER.secrets[2]}).password(role, 1),
            KEYS.verifier(role, 1),
            KEYS.password(role, 1)[:-1],
            "",
        ):
            with pytest.raises(psycopg.OperationalError):
                installation.connect(role, wrong).close()


def test_no_statement_holds_a_password(installation: Installation, fresh: Candidate) -> None:
    schema, reader = roles_of(fresh)
    with installation.database.connect() as superuser:
        superuser.execute("create table public.said (text text)")
        superuser.execute("grant insert on public.said to public")
        superuser.execute(
            "create function public.listen() returns event_trigger language plpgsql as $$ begin"
            " insert into public.said values (current_query()); end $$"
        )
        superuser.execute("create event trigger listen on ddl_command_end execute function public.listen()")
        installation.provision(fresh)
        superuser.execute("drop event trigger listen")
    said = "".join(row["text"] for row in installation.rows("select text from public.said"))
    assert "provision_tenant" in said
    for role in (schema, reader):
        assert KEYS.password(role, 1) not in said
        (row,) = installation.rows("select rolpassword from pg_authid where rolname = %s", role)
        assert row["rolpassword"] == KEYS.verifier(role, 1)


def test_provisioning_again_changes_nothing(installation: Installation, tenant: Candidate) -> None:
    with installation.tenant(tenant.slug) as session:
        session.execute("create table numbers as select 1 as n")
        before = catalogs(installation.database)
        installation.provision(tenant)
        assert catalogs(installation.database) == before
        assert session.execute("select n from numbers").fetchone() == {"n": 1}


# Drift.

DRIFT: dict[str, tuple[str, str]] = {
    "registration is gone": ("delete from kiket_analytics.tenants where schema_name = '{tenant}'", "registration"),
    "registered for another organisation": (
        "update kiket_analytics.tenants set organization_id = 1 where schema_name = '{tenant}'",
        "registration",
    ),
    "registered with another twin": (
        "update kiket_analytics.tenants set reader_name = 'x' where schema_name = '{tenant}'",
        "registration",
    ),
    "another key": ("update kiket_analytics.tenants set key_version = 1 where schema_name = '{tenant}'", "key"),
    "the twin is dropped": ("drop owned by {reader}; drop role {reader}", "role"),
    "the role is dropped": ("drop owned by {tenant} cascade; drop role {tenant}", "role"),
    "no login": ("alter role {tenant} nologin", "login"),
    "no inheritance": ("alter role {tenant} noinherit", "login"),
    "no limit on connections": ("alter role {reader} connection limit -1", "login"),
    "valid until yesterday": ("alter role {tenant} valid until '2000-01-01'", "login"),
    "another search_path": ("alter role {tenant} set search_path = public", "settings"),
    "no time-out": ("alter role {tenant} reset statement_timeout", "settings"),
    "no limit on temporary files": ("alter role {tenant} set temp_file_limit = -1", "settings"),
    "one setting more": ("alter role {tenant} set work_mem = '1GB'", "settings"),
    "the twin may write": ("alter role {reader} set default_transaction_read_only = off", "settings"),
    "a setting in this database": ("alter role {tenant} in database {database} set search_path = public", "settings"),
    "member of nothing": ("revoke analytics_tenants from {tenant} granted by kiket_provisioner", "membership"),
    "the twin is a tenant": ("grant analytics_tenants to {reader} granted by kiket_provisioner", "membership"),
    "may act as its group": (
        "grant analytics_tenants to {tenant} with set true granted by kiket_provisioner",
        "membership",
    ),
    "the right group twice, and once too much": (
        "grant analytics_tenants to {tenant} with inherit true, set false;"
        "grant analytics_tenants to {tenant} with admin true granted by kiket_provisioner;"
        "revoke analytics_tenants from {tenant} granted by postgres",
        "membership",
    ),
    "the schema is gone": ("drop schema {tenant} cascade", "schema"),
    "the twin may create": ("grant create on schema {tenant} to {reader}", "grants"),
    "the twin may not look": ("revoke usage on schema {tenant} from {reader}", "grants"),
    "PUBLIC may look": ("grant usage on schema {tenant} to public", "grants"),
    "PUBLIC may create": ("grant create on schema {tenant} to public", "grants"),
    "a stranger may look": ("grant usage on schema {tenant} to kiket_metrics", "grants"),
    "all tenants may look": ("grant usage on schema {tenant} to analytics_tenants", "grants"),
    "the owner may not create": ("revoke create on schema {tenant} from {tenant}", "grants"),
    "no rights on later tables": (
        "alter default privileges for role {tenant} in schema {tenant} revoke select on tables from {reader}",
        "default_grants",
    ),
}


def test_each_drift_is_seen_and_mended(installation: Installation, tenant: Candidate) -> None:
    schema, reader = roles_of(tenant)
    (row,) = installation.rows("select current_database() as name")
    installation.provision(tenant, NEWER)
    before = catalogs(installation.database)
    seen: dict[str, set[str]] = {}
    for what, (text, _) in DRIFT.items():
        installation.execute(text.format(tenant=schema, reader=reader, database=row["name"]))
        seen[what] = installation.drift(tenant, NEWER)
        installation.provision(tenant, NEWER)
        assert installation.drift(tenant, NEWER) == set(), what
        assert catalogs(installation.database) == before, what
        assert can_log_in(installation, schema, NEWER.password(schema, 2)), what
        assert can_log_in(installation, reader, NEWER.password(reader, 2)), what
    assert {what for what, words in seen.items() if DRIFT[what][1] not in words} == set()
    alone = {what: words for what, words in seen.items() if "dropped" not in what and "schema" not in what}
    assert {what: words - {DRIFT[what][1]} for what, words in alone.items() if len(words) > 1} == {}


def test_every_word_of_drift_is_shown_here() -> None:
    from kiket_worker.ledger.database import statement

    text = statement("drift_of_tenant", "kiket_worker.tenants").decode()
    words = {part.partition("'")[0] for part in text.partition("array_remove")[2].split("then '")[1:]}
    assert words - {"attributes", "ownership"} == {word for _, word in DRIFT.values()}


def test_a_limit_that_was_changed_is_drift(installation: Installation, tenant: Candidate) -> None:
    assert installation.drift(tenant, KIKET_TENANT_CONNECTIONS=4) == {"login"}
    assert installation.drift(tenant, KIKET_TENANT_STATEMENT_SECONDS=5) == {"settings"}
    assert installation.drift(tenant, KIKET_TENANT_IDLE_SECONDS=5) == {"settings"}
    assert installation.drift(tenant, KIKET_TENANT_TEMP_MEGABYTES=5) == {"settings"}
    assert installation.drift(tenant, KIKET_TENANT_QUOTA_MEGABYTES=5) == set(), "the worker's own to watch"
    installation.provision(tenant, KIKET_TENANT_CONNECTIONS=4, KIKET_TENANT_TEMP_MEGABYTES=5)
    assert installation.drift(tenant, KIKET_TENANT_CONNECTIONS=4, KIKET_TENANT_TEMP_MEGABYTES=5) == set()


def test_a_password_that_the_tenant_has_changed_is_put_right(installation: Installation, tenant: Candidate) -> None:
    schema, _ = roles_of(tenant)
    with installation.tenant(tenant.slug) as session:
        session.execute("alter role current_user password 'mine'")
    assert not can_log_in(installation, schema, KEYS.password(schema, 1))
    assert installation.drift(tenant) == set(), "nobody can see it"
    installation.provision(tenant)
    assert can_log_in(installation, schema, KEYS.password(schema, 1))
    assert not can_log_in(installation, schema, "mine")


def test_a_worker_mends_a_password_and_sessions_that_use_up_the_limit_when_it_logs_in(
    installation: Installation, tenant: Candidate
) -> None:
    schema, _ = roles_of(tenant)
    isolation = isolation_of(installation.ledger_url)
    held = [installation.tenant(tenant.slug) for _ in range(8)]
    with pytest.raises(psycopg.OperationalError, match="too many connections"):
        installation.tenant(tenant.slug)
    held[0].execute("alter role current_user password 'mine'")
    login = isolation.log_in(installation.ledger, tenant, schema, installation.lease(tenant))
    assert login is not None
    assert login.role == schema
    assert can_log_in(installation, schema, login.password)
    for session in held:
        with pytest.raises(psycopg.OperationalError):
            session.execute("select 1")
        session.close()


def test_a_worker_whose_tenant_can_still_not_log_in_says_so(installation: Installation, tenant: Candidate) -> None:
    (row,) = installation.rows("select current_database() as name")
    installation.execute(f"revoke connect on database {row['name']} from analytics_tenants")
    isolation = isolation_of(installation.ledger_url)
    with pytest.raises(TenantLoginFailed, match=schema_name(tenant.slug)) as caught:
        isolation.log_in(installation.ledger, tenant, schema_name(tenant.slug), installation.lease(tenant))
    assert KEYS.password(schema_name(tenant.slug), 1) not in str(caught.value)


# Owners.


def build_model(installation: Installation, candidate: Candidate, name: str) -> None:
    """What the ledger knows of a model that a succeeded run has built."""
    run_id = runs.request(installation.ledger, Request(candidate.organization_id, candidate.slug)).run_id
    taken = claims.claim(
        installation.ledger,
        run_id,
        worker="w",
        ttl_seconds=60,
        schema_name=schema_name,
        end_sessions=lambda *_: 0,
    )
    assert isinstance(taken, Claim)
    attempts.record_model(installation.ledger, taken, RunModel(f"model.kiket_analytics.{name}", "success", 1.0, 1))
    attempts.fail(installation.ledger, taken, KiketError("enough"))


@contextmanager
def superuser(installation: Installation) -> Iterator[Any]:
    with Database(installation.database.url) as database, database.transaction() as connection:
        yield connection


def test_a_schema_of_the_shared_login_is_given_to_its_tenant_by_a_superuser(
    installation: Installation, fresh: Candidate
) -> None:
    schema, _ = roles_of(fresh)
    installation.execute(f"create schema {schema}; create table {schema}.fct_throughput as select 1 as n")
    installation.execute(f"create view {schema}.dim_users as select 1 as n")
    installation.execute(f"create materialized view {schema}.fct_cycle_time as select 1 as n")
    installation.execute(f"create table {schema}.of_the_platform as select 1 as n")
    for name in ("fct_throughput", "dim_users", "fct_cycle_time"):
        build_model(installation, fresh, name)
    before = catalogs(installation.database)
    with pytest.raises(TenantNotIsolated) as caught:
        installation.provision(fresh)
    for word in (schema, "owned by postgres", "kiket-worker tenants provision", "superuser"):
        assert word in str(caught.value)
    assert catalogs(installation.database) == before, "nothing is half done"

    with superuser(installation) as connection:
        installation.provisioner().provision(connection, fresh)
    assert installation.drift(fresh) == set()
    owners = installation.rows(
        "select relname, relowner::regrole::text as owner from pg_class where relnamespace = %s::regnamespace"
        " order by 1",
        schema,
    )
    assert {row["relname"]: row["owner"] for row in owners} == {
        "dim_users": schema,
        "fct_cycle_time": schema,
        "fct_throughput": schema,
        "of_the_platform": "postgres",
    }
    installation.provision(fresh)
    with installation.reader(fresh.slug) as session:
        assert session.execute("select n from dim_users").fetchone() == {"n": 1}


def test_a_schema_that_changed_hands_is_drift_that_only_a_superuser_mends(
    installation: Installation, tenant: Candidate
) -> None:
    schema, _ = roles_of(tenant)
    installation.execute(f"alter schema {schema} owner to postgres")
    assert "ownership" in installation.drift(tenant)
    with pytest.raises(TenantNotIsolated, match="superuser"):
        installation.provision(tenant)
    with superuser(installation) as connection:
        installation.provisioner().provision(connection, tenant)
    assert installation.drift(tenant) == set()


def test_a_model_of_another_role_is_refused_with_the_remedy_until_a_superuser_gives_it_away(
    installation: Installation, tenant: Candidate
) -> None:
    schema, _ = roles_of(tenant)
    build_model(installation, tenant, "fct_throughput")
    installation.execute(f"create table {schema}.fct_throughput as select 1 as n")
    with pytest.raises(TenantNotIsolated, match=r"owned by postgres.*tenants provision.*superuser"):
        installation.provision(tenant)
    with superuser(installation) as connection:
        installation.provisioner().provision(connection, tenant)
    with installation.reader(tenant.slug) as session:
        assert session.execute("select n from fct_throughput").fetchone() == {"n": 1}
    with installation.tenant(tenant.slug) as session:
        session.execute("drop table fct_throughput")


def test_tables_of_the_platform_in_a_tenants_schema_survive(installation: Installation, tenant: Candidate) -> None:
    schema, _ = roles_of(tenant)
    installation.execute(
        f"create table {schema}.custom as select 7 as n; create table {schema}.hidden as select 8 as n"
    )
    installation.execute(f"grant select on {schema}.custom to {schema}")
    installation.provision(tenant)
    (row,) = installation.rows(
        "select relowner::regrole::text as owner from pg_class where oid = %s::regclass", f"{schema}.custom"
    )
    assert row == {"owner": "postgres"}
    assert installation.drift(tenant) == set()
    with installation.tenant(tenant.slug) as session:
        assert session.execute("select n from custom").fetchone() == {"n": 7}
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("select n from hidden")


# Refused.


@pytest.mark.parametrize("attribute", ["superuser", "createdb", "createrole", "replication", "bypassrls"])
def test_a_role_that_has_more_rights_is_refused_and_not_used(
    installation: Installation, tenant: Candidate, attribute: str
) -> None:
    schema, reader = roles_of(tenant)
    for role in (schema, reader):
        installation.execute(f"alter role {role} {attribute}")
        try:
            assert installation.drift(tenant) == {"attributes"}
            with pytest.raises(TenantNotIsolated) as caught:
                installation.provision(tenant)
            assert role in str(caught.value)
            assert f"alter role {role}" in str(caught.value)
            with pytest.raises(TenantNotIsolated):
                isolation_of(installation.ledger_url).log_in(
                    installation.ledger, tenant, schema, installation.lease(tenant)
                )
        finally:
            installation.execute(f"alter role {role} no{attribute}")
    installation.provision(tenant)


def test_a_role_that_was_given_another_role_is_refused_until_that_is_revoked(
    installation: Installation, tenant: Candidate
) -> None:
    schema, reader = roles_of(tenant)
    for role, what in ((schema, "pg_read_all_data"), (reader, "analytics_shared"), (reader, "analytics_tenants")):
        installation.execute(f"grant {what} to {role}")
        assert installation.drift(tenant) == {"membership"}
        with pytest.raises(TenantNotIsolated, match=r"given more than it may have.*revoke every other role"):
            installation.provision(tenant)
        installation.execute(f"revoke {what} from {role}")
    installation.provision(tenant)
    # The group itself by another hand, and with no more than it should have, does no harm.
    installation.execute(f"grant analytics_tenants to {schema} with inherit true, set false")
    assert installation.drift(tenant) == set()
    installation.provision(tenant)


def test_a_role_that_somebody_else_has_made_is_refused(installation: Installation, fresh: Candidate) -> None:
    schema, _ = roles_of(fresh)
    installation.execute(f"create role {schema} login password 'mine'")
    with pytest.raises(TenantNotIsolated, match="made by somebody else"):
        installation.provision(fresh)
    assert installation.rows("select from pg_namespace where nspname = %s", schema) == []
    installation.execute(f"grant {schema} to kiket_provisioner with admin option, inherit false, set false")
    installation.provision(fresh)
    assert installation.drift(fresh) == set()
    assert not can_log_in(installation, schema, "mine")


def test_an_unknown_organisation_is_refused(installation: Installation) -> None:
    with pytest.raises(UnknownOrganization, match="nobody"):
        installation.provision(Candidate(4711, "nobody"))
    assert installation.rows("select from pg_roles where rolname = 'analytics_org_nobody'") == []


@pytest.mark.parametrize("slug", ["Acme", "a'b", "-a", "a_", "x" * 50, "a b", ""])
def test_a_slug_that_cannot_be_a_schema_is_refused_by_code_and_by_the_database(
    installation: Installation, slug: str
) -> None:
    installation.execute("insert into public.organizations values (77, %s, 'x', 'team', now())", slug)
    with pytest.raises(InvalidSlug):
        installation.provision(Candidate(77, slug))
    with pytest.raises(InvalidSlug), installation.ledger.transaction() as connection:
        # As if only the ledger knew it: the name that code believes in is another.
        installation.provisioner().provision(connection, Candidate(77, "good"))
    assert installation.rows("select from kiket_analytics.leases where organization_id = 77") == []


def test_the_schema_of_another_organisation_is_refused(installation: Installation) -> None:
    name = f"t{uuid4().hex[:8]}"
    first, second = installation.add(f"{name}-b"), installation.add(f"{name}_b")
    installation.provision(first)
    before = catalogs(installation.database)
    with pytest.raises(SchemaTaken, match=f"{name}_b"):
        installation.provision(second)
    assert catalogs(installation.database) == before


def test_one_that_cannot_be_provisioned_leaves_its_batch_alone(installation: Installation) -> None:
    name = f"t{uuid4().hex[:8]}"
    first, second, third = installation.add(), installation.add(f"{name}-b"), installation.add(f"{name}_b")
    hostile = Candidate(installation.add().organization_id, "Bad Slug")
    powerful = installation.add()
    installation.execute(f"create role {schema_name(powerful.slug)} superuser")
    last = installation.add()
    everyone = [first, second, third, hostile, Candidate(4711, "nobody"), powerful, last]
    (done,) = installation.provisioner().provision_all(installation.ledger, everyone)
    assert [(one.candidate, one.outcome, one.fault.kind if one.fault else None) for one in done] == [
        (first, "mended", None),
        (second, "mended", None),
        (third, "failed", "organization_schema_taken"),
        (hostile, "failed", "organization_slug_invalid"),
        (everyone[4], "failed", "organization_unknown"),
        (powerful, "failed", "tenant_not_isolated"),
        (last, "mended", None),
    ]
    for candidate in (first, second, last):
        assert installation.drift(candidate) == set()
    (again,) = installation.provisioner().provision_all(installation.ledger, [first, last])
    assert again == [Provisioned(first), Provisioned(last)]
    assert {one.outcome for one in again} == {"unchanged"}


def test_batches_that_are_done_stay_when_the_rest_is_interrupted(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provisioning, "_BATCH", 2)
    everyone = [installation.add() for _ in range(5)]
    batches = installation.provisioner().provision_all(installation.ledger, everyone)
    assert [one.candidate for one in next(batches)] == everyone[:2]
    assert [one.candidate for one in next(batches)] == everyone[2:4]
    batches.close()
    assert [installation.drift(candidate) == set() for candidate in everyone] == [True] * 4 + [False]


# At once.


def in_threads(*actions: Callable[[], object]) -> None:
    with ThreadPoolExecutor(len(actions)) as pool:
        for future in [pool.submit(action) for action in actions]:
            future.result(60)


def test_one_organisation_is_provisioned_from_many_threads_at_once(installation: Installation) -> None:
    for _ in range(3):
        candidate = installation.add()
        in_threads(*[lambda candidate=candidate: installation.provision(candidate)] * 6)
        assert installation.drift(candidate) == set()


def test_many_organisations_are_provisioned_from_many_threads_at_once(installation: Installation) -> None:
    everyone = [installation.add() for _ in range(12)]

    def one_by_one(seed: int) -> None:
        shuffled = Random(seed).sample(everyone, len(everyone))
        for candidate in shuffled:
            installation.provision(candidate)

    def in_a_batch() -> None:
        (done,) = installation.provisioner().provision_all(installation.ledger, everyone)
        assert [one.fault for one in done] == [None] * len(everyone)

    in_threads(*[lambda seed=seed: one_by_one(seed) for seed in range(4)], in_a_batch, in_a_batch)
    assert all(installation.drift(candidate) == set() for candidate in everyone)


# Dropping.


def test_a_dropped_tenant_leaves_its_ledger_and_nothing_else(installation: Installation, tenant: Candidate) -> None:
    schema, reader = roles_of(tenant)
    build_model(installation, tenant, "fct_throughput")
    with installation.tenant(tenant.slug) as session, installation.reader(tenant.slug) as other:
        session.execute("create table fct_throughput as select 1 as n")
        session.execute("create temporary table t (a int)")
        installation.execute(f"create table {schema}.custom as select 7 as n")
        provisioning.drop(installation.ledger, tenant.slug)
        for ended in (session, other):
            with pytest.raises(psycopg.OperationalError):
                ended.execute("select 1")
    assert installation.rows("select from pg_namespace where nspname = %s", schema) == []
    assert installation.rows("select from pg_roles where rolname = any (%s)", [schema, reader]) == []
    assert installation.rows("select from kiket_analytics.tenants where schema_name = %s", schema) == []
    assert len(installation.rows("select from kiket_analytics.runs")) == 1
    assert len(installation.rows("select from kiket_analytics.run_models")) == 1
    with pytest.raises(UnknownTenant, match=tenant.slug):
        provisioning.drop(installation.ledger, tenant.slug)
    installation.provision(tenant)
    assert installation.drift(tenant) == set()


def test_a_tenant_that_is_being_refreshed_is_not_dropped(installation: Installation, tenant: Candidate) -> None:
    epoch = installation.lease(tenant)
    before = catalogs(installation.database)
    with installation.tenant(tenant.slug) as session:
        with pytest.raises(TenantBusy, match=tenant.slug):
            provisioning.drop(installation.ledger, tenant.slug)
        session.execute("select 1")
    assert catalogs(installation.database) == before
    installation.release(tenant, epoch)
    provisioning.drop(installation.ledger, tenant.slug)


def test_a_lease_that_has_expired_keeps_nobody_from_dropping(installation: Installation, tenant: Candidate) -> None:
    installation.lease(tenant)
    installation.execute("update kiket_analytics.leases set expires_at = now() - interval '1 second'")
    provisioning.drop(installation.ledger, tenant.slug)


def test_what_the_platform_has_removed_can_be_dropped(installation: Installation, tenant: Candidate) -> None:
    installation.execute("delete from public.organizations where id = %s", tenant.organization_id)
    provisioning.drop(installation.ledger, tenant.slug)
    assert installation.rows("select from pg_roles where rolname = any (%s)", list(roles_of(tenant))) == []


@pytest.mark.parametrize("kind", ["never provisioned", "unknown", "the shared schema"])
def test_a_slug_without_tenant_is_unknown(installation: Installation, fresh: Candidate, kind: str) -> None:
    slug = {"never provisioned": fresh.slug, "unknown": "nobody", "the shared schema": "shared"}[kind]
    with pytest.raises(UnknownTenant, match=slug):
        provisioning.drop(installation.ledger, slug)


def test_a_role_that_owns_something_elsewhere_is_not_dropped_by_halves(
    installation: Installation, tenant: Candidate, empty_database: Any
) -> None:
    schema, _ = roles_of(tenant)
    empty_database.execute(f"create schema elsewhere authorization {schema}")
    before = catalogs(installation.database)
    with pytest.raises(TenantNotIsolated, match=schema):
        provisioning.drop(installation.ledger, tenant.slug)
    assert catalogs(installation.database) == before
    empty_database.execute("drop schema elsewhere")
    provisioning.drop(installation.ledger, tenant.slug)


# Rotating keys.


def rotate(installation: Installation, keys: TenantKeys) -> dict[str, str]:
    done: list[Rotated] = []
    for batch in installation.provisioner(keys).rotate(installation.ledger):
        done += batch
    assert all(one.fault is None for one in done)
    return {one.schema_name: one.outcome for one in done}


def test_every_tenant_gets_passwords_of_the_newest_key_in_batches(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provisioning, "_BATCH", 2)
    everyone = [installation.add() for _ in range(5)]
    for candidate in everyone:
        installation.provision(candidate)
    with installation.ledger.transaction() as connection:
        installation.provisioner().provision_shared(connection)
    assert provisioning.key_versions(installation.ledger) == {1: 6}
    done = rotate(installation, NEWER)
    assert done == {schema_name(one.slug): "rotated" for one in everyone} | {"analytics_shared": "rotated"}
    assert provisioning.key_versions(installation.ledger) == {2: 6}
    for candidate in everyone:
        for role in roles_of(candidate):
            assert can_log_in(installation, role, NEWER.password(role, 2))
            assert not can_log_in(installation, role, KEYS.password(role, 1))
        # The older key can be taken out.
        assert installation.drift(candidate, NEWEST_ONLY) == set()
    assert can_log_in(installation, "analytics_shared", NEWEST_ONLY.password("analytics_shared", 2))
    assert rotate(installation, NEWEST_ONLY) == {}


def test_a_tenant_that_is_being_refreshed_keeps_its_password_and_its_sessions(
    installation: Installation, tenant: Candidate
) -> None:
    other = installation.add()
    installation.provision(other)
    epoch = installation.lease(tenant)
    schema, _ = roles_of(tenant)
    with installation.tenant(tenant.slug) as running:
        assert rotate(installation, NEWER) == {schema: "busy", schema_name(other.slug): "rotated"}
        running.execute("create table numbers as select 1 as n")
        with installation.tenant(tenant.slug) as opened_later:
            opened_later.execute("select n from numbers")
        assert (version_of(installation, tenant), version_of(installation, other)) == (1, 2)
        assert not can_log_in(installation, schema, NEWER.password(schema, 2))
        # Whoever holds the lease may.
        with pytest.raises(TenantBusy):
            installation.provision(tenant, NEWER)
        login = isolation_of(installation.ledger_url, KIKET_TENANT_KEYS=NEWER_VARIABLE).log_in(
            installation.ledger, tenant, schema, epoch
        )
        assert login is not None
        assert login.password == NEWER.password(schema, 2)
    installation.release(tenant, epoch)
    assert rotate(installation, NEWER) == {}
    assert installation.drift(tenant, NEWEST_ONLY) == set()


def test_provisioning_without_a_new_key_does_not_wait_for_a_refresh(
    installation: Installation, tenant: Candidate
) -> None:
    installation.lease(tenant)
    with installation.tenant(tenant.slug) as running:
        installation.provision(tenant)
        running.execute("select 1")
    assert can_log_in(installation, schema_name(tenant.slug), KEYS.password(schema_name(tenant.slug), 1))


def test_the_shared_schema_that_is_being_built_keeps_its_password(installation: Installation) -> None:
    with installation.ledger.transaction() as connection:
        installation.provisioner().provision_shared(connection)
    installation.execute(
        "update kiket_analytics.leases set epoch = epoch + 1, worker = 'w', expires_at = now() + interval '1 hour'"
        " where schema_name = 'analytics_shared'"
    )
    assert rotate(installation, NEWER) == {"analytics_shared": "busy"}
    assert can_log_in(installation, "analytics_shared", KEYS.password("analytics_shared", 1))


def test_a_tenant_of_an_organisation_that_is_gone_fails_by_name_and_holds_nobody_up(
    installation: Installation, tenant: Candidate
) -> None:
    other = installation.add()
    installation.provision(other)
    installation.execute("delete from public.organizations where id = %s", tenant.organization_id)
    (done,) = installation.provisioner(NEWER).rotate(installation.ledger)
    outcomes = {one.schema_name: (one.outcome, one.fault.kind if one.fault else None) for one in done}
    assert outcomes == {
        schema_name(tenant.slug): ("failed", "organization_unknown"),
        schema_name(other.slug): ("rotated", None),
    }
    (fault,) = [one.fault for one in done if one.fault]
    assert schema_name(tenant.slug) in str(fault)


def test_a_refresh_gives_its_organisation_the_newest_key(
    installation: Installation, tenant: Candidate, tmp_path: Any
) -> None:
    refreshes = Refreshes.prepare(installation.database.url, installation.ledger, tmp_path)
    refreshes.execute("grant insert on public.audit to kiket_ledger")
    isolation = isolation_of(installation.ledger_url, KIKET_TENANT_KEYS=NEWER_VARIABLE)
    services = refreshes.services(CONNECT + "connect()\nbuild('a')", libraries=True, isolation=isolation)
    run_id = refreshes.request(tenant.slug)
    assert refresh(run_id, services, Cancellation()) is Status.SUCCEEDED
    assert version_of(installation, tenant) == 2
    (event,) = [event for event in refreshes.events() if event["event"] == "tenant.provisioned"]
    assert (event["organization"], event["drift"]) == (tenant.slug, ["key"])


# What a tenant does to its own role meanwhile.


def test_a_tenant_that_holds_its_own_role_holds_up_nobody_else(installation: Installation, tenant: Candidate) -> None:
    other = installation.add()
    with installation.tenant(tenant.slug) as holding:
        holding.execute("begin")
        holding.execute("alter role current_user set work_mem = '8MB'")
        provisioner = installation.provisioner()
        (done,) = provisioner.provision_all(installation.ledger, [tenant, other])
        outcomes = {one.candidate.slug: one.fault.kind if one.fault else None for one in done}
        assert outcomes == {tenant.slug: "tenant_busy", other.slug: None}
        holding.execute("commit")
    installation.provision(tenant)
    assert installation.drift(tenant) == set()


def test_a_worker_gives_the_twin_its_password_back(installation: Installation, tenant: Candidate) -> None:
    with installation.reader(tenant.slug) as reader:
        reader.execute("set default_transaction_read_only = off")
        reader.execute("alter role current_user password 'known-to-a-dashboard'")
    reader_role = reader_name(tenant.slug)
    assert can_log_in(installation, reader_role, "known-to-a-dashboard")
    isolation_of(installation.ledger_url).log_in(
        installation.ledger, tenant, schema_name(tenant.slug), installation.lease(tenant)
    )
    assert not can_log_in(installation, reader_role, "known-to-a-dashboard")
    installation.reader(tenant.slug).close()


def test_a_process_with_an_older_key_does_not_take_the_passwords_back(
    installation: Installation, tenant: Candidate
) -> None:
    installation.provision(tenant, NEWER)
    with pytest.raises(TenantLoginFailed, match=r"version 2 of the key.*KIKET_TENANT_KEYS"):
        installation.provision(tenant)
    assert version_of(installation, tenant) == 2
    installation.tenant(tenant.slug, keys=NEWER).close()
