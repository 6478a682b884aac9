"""Attacks on what all share: time, room, locks, notifications and names. Afterwards the victim is refreshed as ever."""

import threading
from collections.abc import Iterator

import psycopg
import pytest

from kiket_worker.errors import SchemaTaken
from kiket_worker.ledger.runs import Status
from kiket_worker.tenants.provisioning import Candidate, Limits, Provisioner
from kiket_worker.tenants.schema import reader_name, schema_name
from kiket_worker.tenants.sessions import end_overrunning_sessions
from tests.isolation.attacks import OWN, OWN_READER, VICTIM
from tests.isolation.siege import VICTIMS, Siege
from tests.support.tenants import KEYS, settings_of

_ENDLESS = {
    "a join of everything with everything": (
        "select count(*) from generate_series(1, 1000000) as a, generate_series(1, 1000000) as b"
    ),
    "a recursion without end": (
        "with recursive more as (select repeat('x', 1000) as line union all select line from more)"
        " select count(*) from more"
    ),
    "a loop": "do 'begin loop perform 1; end loop; end'",
    "a loop that catches being cancelled": (
        "do 'begin loop begin perform pg_sleep(60); exception when query_canceled then null; end; end loop; end'"
    ),
    "a sleep": "select pg_sleep(86400)",
}
_LIFTED = (
    "set statement_timeout = 0; set transaction_timeout = 0; set idle_in_transaction_session_timeout = 0;"
    " set application_name = 'kiket-worker'"
)


@pytest.mark.parametrize("role", [OWN, OWN_READER])
@pytest.mark.parametrize("work", _ENDLESS)
def test_what_would_never_end_is_ended_from_outside(siege: Siege, work: str, role: str) -> None:
    ended: list[psycopg.Error] = []

    def run(connection: psycopg.Connection[object]) -> None:
        try:
            connection.execute(_ENDLESS[work].encode())
        except psycopg.Error as fault:
            ended.append(fault)

    with siege.connect(role, options="") as connection:
        connection.execute(_LIFTED)
        thread = threading.Thread(target=run, args=(connection,))
        thread.start()
        overruns = []
        while not overruns and thread.is_alive():
            with siege.database.transaction() as worker:
                overruns = end_overrunning_sessions(worker, OWN, statement_seconds=0.2, idle_seconds=0.2)
        thread.join(20)
    assert not thread.is_alive()
    assert [overrun.kind for overrun in overruns] == ["statement"]
    assert isinstance(ended[0], psycopg.errors.AdminShutdown)
    siege.assert_unharmed()


@pytest.mark.parametrize(
    ("bomb", "error"),
    [
        (
            "create or replace function analytics_org_acme.deeper(n bigint) returns bigint language plpgsql as"
            " 'begin return analytics_org_acme.deeper(n + 1); end'; select analytics_org_acme.deeper(1)",
            psycopg.errors.StatementTooComplex,
        ),
        ("select repeat('x', 1024 * 1024 * 1024)", psycopg.errors.ProgramLimitExceeded),
        (
            "set temp_file_limit = -1",
            psycopg.errors.InsufficientPrivilege,
        ),
    ],
    ids=["recursion", "one large value", "temporary files without limit"],
)
def test_what_takes_too_much_at_once_is_refused_by_postgres(
    siege: Siege, bomb: str, error: type[psycopg.Error]
) -> None:
    with siege.connect(OWN) as connection, pytest.raises(error):
        connection.execute(bomb.encode())
    siege.assert_unharmed()


@pytest.mark.parametrize("role", [OWN, OWN_READER])
def test_nothing_that_a_tenant_says_gets_into_the_servers_log(siege: Siege, role: str) -> None:
    with siege.connect(role) as connection:
        connection.execute("do $$ begin raise log 'flooding %', repeat('x', 100); end $$")
        with pytest.raises(psycopg.errors.RaiseException):
            connection.execute("do $$ begin raise exception 'flooding %', repeat('x', 100); end $$")
    assert "flooding" not in siege.server_log.read_text()
    siege.admin.execute("do $$ begin raise log 'an administrator says'; end $$")
    assert "an administrator says" in siege.server_log.read_text()


@pytest.fixture
def squatter(siege: Siege) -> Iterator[psycopg.Connection[object]]:
    """A session of the attacker's that holds whatever locks it can, and floods whoever listens."""
    with siege.connect(OWN, options="") as connection:
        connection.execute("select count(pg_advisory_lock(key)) from generate_series(-1000, 1000) as key")
        connection.execute(
            "select count(pg_notify('kiket', repeat('x', 7000) || n)) from generate_series(1, 1000) as n"
        )
        connection.execute("begin")
        for name in ("issues", "users", "projects", "comments", "releases", "usage_events", "organizations"):
            connection.execute(f"select from analytics_raw.{name} limit 1".encode())
        connection.execute("select from analytics_shared.dim_dates limit 1")
        yield connection


@pytest.mark.usefixtures("squatter")
def test_locks_and_notifications_of_the_attacker_hold_up_no_refresh_of_others(siege: Siege) -> None:
    run = siege.refresh("blue-harbor")
    siege.remember()
    assert (run.status, run.error_message) == (Status.SUCCEEDED, None)


def test_an_organisation_cannot_get_anothers_schema_by_a_name_that_comes_to_the_same(siege: Siege) -> None:
    provisioner = Provisioner(KEYS, Limits.from_settings(settings_of(siege.ledger_url)))
    siege.admin.execute("insert into public.organizations values (77, 'blue_harbor', 'Blue Harbor too', 'team', now())")
    try:
        assert schema_name("blue_harbor") == VICTIM
        with pytest.raises(SchemaTaken), siege.database.transaction() as connection:
            provisioner.provision(connection, Candidate(77, "blue_harbor"))
        with siege.connect(VICTIM) as victim:
            assert victim.execute("select distinct organization_id from analytics_raw.issues").fetchall() == [
                (VICTIMS.organization_id,)
            ]
    finally:
        siege.admin.execute("delete from public.organizations where id = 77")
    siege.assert_unharmed()


def test_the_longest_names_stay_apart(siege: Siege) -> None:
    """A role's name has room for 63 bytes, and Postgres cuts what is longer without an error."""
    slugs = ("x" * 48 + "a", "x" * 48 + "b")
    provisioner = Provisioner(KEYS, Limits.from_settings(settings_of(siege.ledger_url)))
    roles = {name for slug in slugs for name in (schema_name(slug), reader_name(slug))}
    assert len(roles) == 4
    assert max(map(len, roles)) == 63
    try:
        for number, slug in enumerate(slugs, 91):
            siege.admin.execute(
                "insert into public.organizations values (%s, %s, 'Long', 'team', now())", [number, slug]
            )
            with siege.database.transaction() as connection:
                provisioner.provision(connection, Candidate(number, slug))
                assert provisioner.drift(connection, Candidate(number, slug)) == ()
        for number, slug in enumerate(slugs, 91):
            with siege.connect(schema_name(slug)) as session:
                assert session.execute("select slug, id from analytics_raw.organizations").fetchall() == [
                    (slug, number)
                ]
    finally:
        for slug in slugs:
            siege.admin.execute("select kiket_analytics.drop_tenant(%s)", [schema_name(slug)])
        siege.admin.execute("delete from kiket_analytics.leases where organization_id > 90 and epoch = 0")
        siege.admin.execute("delete from public.organizations where id > 90")
        siege.remember()
