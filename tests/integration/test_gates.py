"""Gates in a real database: whose rows and which columns they show, how a list is applied, and how it is compared."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from kiket_worker.errors import InvalidSetting
from kiket_worker.tenants import roles
from kiket_worker.tenants.gates import Gate, GateFault, Step, compare, load_gates
from kiket_worker.tenants.provisioning import Candidate
from tests.support.installations import Installation, catalogs

GATES = load_gates(None)
LISTED = {gate.name: gate for gate in GATES}
ACME, HARBOR = Candidate(1, "acme"), Candidate(2, "blue-harbor")
_T = TypeVar("_T")


def install(installation: Installation, *gates: Gate) -> roles.RolesSetUp:
    return roles.set_up(installation.database.url, gates, shared_schema="analytics_shared")


def listing(**changed: Gate | None) -> tuple[Gate, ...]:
    """The list of the release with some entries changed, added, or left out."""
    return tuple(gate for gate in (LISTED | changed).values() if gate is not None)


def without(gate: Gate, *columns: str) -> Gate:
    return replace(gate, columns=tuple(column for column in gate.columns if column not in columns))


def faults_of(installation: Installation, gates: tuple[Gate, ...] = GATES) -> list[tuple[str, str]]:
    """What the worker's own login finds."""
    with installation.ledger.transaction() as connection:
        return [(fault.kind, fault.gate) for fault in compare(connection, gates)]


@contextmanager
def changed(installation: Installation, *statements: str) -> Iterator[psycopg.Connection[Any]]:
    """A superuser's transaction in which something was changed; it is taken back."""
    with psycopg.connect(installation.database.url, row_factory=dict_row) as connection:
        for text in statements:
            connection.execute(text.encode())
        yield connection
        connection.rollback()


@pytest.fixture
def tenants(installation: Installation) -> Installation:
    """With two organisations provisioned, each with a usage event."""
    for candidate in (ACME, HARBOR):
        installation.provision(candidate)
        installation.execute(
            "insert into kiket_analytics.usage_events (organization_id, metric, quantity, unit)"
            " values (%s, 'seats', 1, 'seat')",
            candidate.organization_id,
        )
    return installation


RAW = {
    "organizations": "select id from public.organizations where id = %s",
    "comments": "select c.id from public.comments as c join public.issues as i on i.id = issue_id"
    " where i.organization_id = %s",
}


def test_each_gate_shows_an_organisation_its_own_rows_and_all_of_them(tenants: Installation) -> None:
    for candidate in (ACME, HARBOR):
        with tenants.tenant(candidate.slug) as session:
            for gate in GATES:
                default = f"select id from {gate.schema}.{gate.table} where organization_id = %s"
                own = tenants.rows(RAW.get(gate.name, default), candidate.organization_id)
                seen = session.execute(f"select id from analytics_raw.{gate.name}".encode()).fetchall()
                assert sorted(row["id"] for row in seen) == sorted(row["id"] for row in own), gate.name
                assert own, f"{gate.name} has no row that could be shown"


def test_a_gate_has_the_columns_of_the_list_and_no_other(tenants: Installation) -> None:
    with tenants.tenant("acme") as session:
        for gate in GATES:
            described = session.execute(f"select * from analytics_raw.{gate.name} limit 0".encode()).description
            assert [column.name for column in described or ()] == list(gate.columns)
        with pytest.raises(psycopg.errors.UndefinedColumn):
            session.execute("select email from analytics_raw.users")


def test_a_twin_sees_the_same_rows_through_its_organisations_views(tenants: Installation) -> None:
    with tenants.tenant("acme") as session:
        session.execute("create view titles as select id, title from analytics_raw.issues")
        own = session.execute("select count(*), sum(id) from titles").fetchone()
    with tenants.reader("acme") as session:
        assert session.execute("select count(*), sum(id) from titles").fetchone() == own
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("select from analytics_raw.issues")


def test_a_way_over_several_parents_leads_to_the_organisation(tenants: Installation) -> None:
    tenants.execute("create table public.reactions (id bigint primary key, comment_id bigint, emoji text)")
    tenants.execute("insert into public.reactions select id * 2, id, '+1' from public.comments")
    tenants.execute("insert into public.reactions values (-1, -1, 'of no comment'), (-2, null, 'of none')")
    way = (Step("comment_id", "public", "comments", "id"), Step("issue_id", "public", "issues", "id"))
    gate = Gate("reactions", "public", "reactions", way, "organization_id", ("id", "emoji"), False)
    install(tenants, *GATES, gate)
    for slug in ("acme", "blue-harbor"):
        with tenants.tenant(slug) as session:
            rows = session.execute("select id / 2 as id from analytics_raw.reactions order by 1").fetchall()
            assert rows == session.execute("select id from analytics_raw.comments order by 1").fetchall()
            assert rows


def test_nobody_without_registration_sees_a_row(tenants: Installation) -> None:
    def seen_by(session: psycopg.Connection[Any]) -> int:
        rows = [session.execute(f"select from analytics_raw.{gate.name}".encode()).rowcount for gate in GATES]
        return sum(rows)

    with tenants.database.connect() as superuser:
        assert seen_by(superuser) == 0
        superuser.execute("set session authorization analytics_org_acme")
        assert seen_by(superuser) > 0
    stranger = f"analytics_org_x{uuid4().hex[:8]}"
    tenants.execute(f"create role {stranger} login password 'x' in role analytics_tenants")
    try:
        with tenants.connect(stranger, "x") as session:
            assert seen_by(session) == 0
            # The names of others are settings that anybody may set.
            session.execute("set application_name = 'analytics_org_acme'")
            assert seen_by(session) == 0
    finally:
        tenants.execute(f"drop role {stranger}")
    tenants.execute("delete from kiket_analytics.tenants where schema_name = 'analytics_org_acme'")
    with tenants.tenant("acme") as session:
        assert seen_by(session) == 0
    with tenants.tenant("blue-harbor") as session:
        assert seen_by(session) > 0


def test_the_builder_of_shared_models_reads_no_gate(tenants: Installation) -> None:
    tenants.execute("alter role analytics_shared password 'shared'")
    with tenants.connect("analytics_shared", "shared") as session:
        assert session.execute("select analytics_raw.session_organization_id() as id").fetchone() == {"id": None}
        for gate in GATES:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(f"select from analytics_raw.{gate.name}".encode())


def readable(installation: Installation) -> dict[tuple[str, str], set[str]]:
    """The columns that the owner of the gates can read, of every relation that is not its own or Postgres'."""
    found: dict[tuple[str, str], set[str]] = {}
    for row in installation.rows(
        "select nspname, relname, attname from pg_attribute join pg_class on pg_class.oid = attrelid"
        " join pg_namespace on pg_namespace.oid = relnamespace"
        " where nspname !~ '^(pg_|information_schema)' and relkind in ('r', 'v', 'm', 'p') and attnum > 0"
        " and relowner <> 'analytics_gates'::regrole and not attisdropped"
        " and has_column_privilege('analytics_gates', attrelid, attnum, 'select')"
    ):
        found.setdefault((row["nspname"], row["relname"]), set()).add(row["attname"])
    return found


def wanted(installation: Installation, gates: tuple[Gate, ...]) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {
        ("kiket_analytics", "tenants"): {"schema_name", "reader_name", "organization_id"}
    }
    for gate in gates:
        present = installation.rows(
            "select column_name as name from information_schema.columns where table_schema = %s and table_name = %s",
            *(gate.schema, gate.table),
        )
        for table, columns in gate.columns_read(tuple(row["name"] for row in present)).items():
            found.setdefault(table, set()).update(columns)
    return found


def test_the_owner_of_the_gates_reads_what_the_list_needs_and_nothing_of_an_earlier_list(
    tenants: Installation,
) -> None:
    assert readable(tenants) == wanted(tenants, GATES)
    fewer = listing(users=None, issues=without(LISTED["issues"], "title", "due_on"))
    install(tenants, *fewer)
    assert readable(tenants) == wanted(tenants, fewer)
    assert ("public", "users") not in readable(tenants)
    assert not tenants.rows(
        "select from information_schema.role_table_grants where grantee = 'analytics_gates'"
        " and privilege_type <> 'SELECT' and table_schema <> 'analytics_raw'"
    )


def test_a_new_raw_table_is_invisible_until_it_is_listed(tenants: Installation) -> None:
    tenants.execute("create table public.notes (id bigint, organization_id bigint, body text)")
    tenants.execute("insert into public.notes values (1, 1, 'ours'), (2, 2, 'theirs'), (3, null, 'nobody''s')")
    install(tenants, *GATES)
    with tenants.tenant("acme") as session:
        for name in ("public.notes", "analytics_raw.notes"):
            with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedTable)):
                session.execute(f"select from {name}".encode())
    notes = Gate("notes", "public", "notes", (), "organization_id", ("body",), False)
    assert install(tenants, *GATES, notes).gates[-1] == "notes"
    with tenants.tenant("acme") as session:
        assert session.execute("select * from analytics_raw.notes").fetchall() == [{"body": "ours"}]


def test_a_new_raw_column_is_invisible_until_it_is_listed(tenants: Installation) -> None:
    tenants.execute('alter table public.issues add "Cost €" integer default 7')
    install(tenants, *GATES)
    with tenants.tenant("acme") as session, pytest.raises(psycopg.errors.UndefinedColumn):
        session.execute('select "Cost €" from analytics_raw.issues')
    assert faults_of(tenants) == []
    more = replace(LISTED["issues"], columns=("Cost €", *LISTED["issues"].columns))
    assert faults_of(tenants, listing(issues=more)) == [("gate_outdated", "issues")]
    install(tenants, *listing(issues=more))
    assert faults_of(tenants, listing(issues=more)) == []
    with tenants.tenant("acme") as session:
        assert session.execute('select distinct "Cost €" as cost from analytics_raw.issues').fetchall() == [{"cost": 7}]


def test_where_columns_are_withheld_a_new_one_shows_after_the_next_set_up(tenants: Installation) -> None:
    gates = listing(users=replace(LISTED["users"], columns=("email", "name"), withholds=True))
    install(tenants, *gates)
    tenants.execute("alter table public.users add shoe_size integer default 43")
    assert faults_of(tenants, gates) == [("gate_outdated", "users")]
    with tenants.tenant("acme") as session, pytest.raises(psycopg.errors.UndefinedColumn):
        session.execute("select shoe_size from analytics_raw.users")
    install(tenants, *gates)
    assert faults_of(tenants, gates) == []
    with tenants.tenant("acme") as session:
        assert session.execute("select distinct shoe_size from analytics_raw.users").fetchall() == [{"shoe_size": 43}]
        with pytest.raises(psycopg.errors.UndefinedColumn):
            session.execute("select email from analytics_raw.users")
        # It was exposed before, so the gate keeps its place.
        assert session.execute("select distinct name from analytics_raw.users").fetchall() == [{"name": None}]


def test_a_column_that_is_no_longer_exposed_becomes_null_and_tenants_views_go_on(tenants: Installation) -> None:
    with tenants.tenant("acme") as session:
        session.execute(
            "create view titles as select id, title, pg_typeof(title)::text as type from analytics_raw.issues"
        )
        before = session.execute("select * from titles order by id").fetchall()
        assert all(row["title"] for row in before)
        fewer = listing(issues=without(LISTED["issues"], "title"))
        install(tenants, *fewer)
        assert session.execute("select * from titles order by id").fetchall() == [
            row | {"title": None} for row in before
        ]
        assert faults_of(tenants, fewer) == []
        assert "title" not in readable(tenants)["public", "issues"]
        again = catalogs(tenants.database)
        install(tenants, *fewer)
        assert catalogs(tenants.database) == again
        install(tenants, *GATES)
        assert session.execute("select * from titles order by id").fetchall() == before
    assert faults_of(tenants) == []


def test_a_gate_that_is_no_longer_listed_shows_nobody_anything_until_it_is_again(tenants: Installation) -> None:
    with tenants.tenant("acme") as session, tenants.reader("acme") as reader:
        session.execute("create view versions as select version from analytics_raw.releases")
        before = session.execute("select * from versions").fetchall()
        assert before
        done = install(tenants, *listing(releases=None))
        assert "releases" not in done.gates
        assert done.absent == ()
        for one in (session, reader):
            for name in ("analytics_raw.releases", "analytics_org_acme.versions"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    one.execute(f"select from {name}".encode())
        assert faults_of(tenants, listing(releases=None)) == []
        assert ("public", "releases") not in readable(tenants)
        assert faults_of(tenants) == [("gate_absent", "releases")]
        install(tenants, *GATES)
        assert session.execute("select * from versions").fetchall() == before


def test_a_raw_table_that_is_absent_is_left_out_and_reported(tenants: Installation) -> None:
    tenants.execute("drop table public.releases cascade")
    done = install(tenants, *GATES)
    assert done.absent == ("releases",)
    assert set(done.gates) == set(LISTED) - {"releases"}
    assert faults_of(tenants) == [("raw_table_absent", "releases")]
    with tenants.tenant("acme") as session:
        assert session.execute("select from analytics_raw.issues").rowcount > 0


FAULTS = {
    "the raw table is gone": (["drop table public.releases cascade"], "raw_table_absent"),
    "the gate is gone": (["drop view analytics_raw.releases"], "gate_absent"),
    "the gate was never recorded": (["delete from kiket_analytics.gates where view_name = 'releases'"], "gate_absent"),
    "it lets everything through": (
        [
            "create or replace view analytics_raw.releases with (security_barrier) as select id, organization_id,"
            " project_id, version, changelog_draft, changelog, released_at, created_at from public.releases"
        ],
        "gate_changed",
    ),
    "it has another owner": (["alter view analytics_raw.releases owner to postgres"], "gate_changed"),
    "it is no barrier": (["alter view analytics_raw.releases reset (security_barrier)"], "gate_changed"),
    "the barrier is off": (["alter view analytics_raw.releases set (security_barrier = false)"], "gate_changed"),
    "everybody may read it": (["grant select on analytics_raw.releases to public"], "gate_changed"),
    "somebody may read it": (["grant select on analytics_raw.releases to kiket_metrics"], "gate_changed"),
    "somebody may read a column": (["grant select (id) on analytics_raw.releases to kiket_metrics"], "gate_changed"),
    "tenants may write": (["grant update on analytics_raw.releases to analytics_tenants"], "gate_changed"),
    "tenants may write a column": (
        ["grant update (version) on analytics_raw.releases to analytics_tenants"],
        "gate_changed",
    ),
    "tenants may not read": (["revoke select on analytics_raw.releases from analytics_tenants"], "gate_changed"),
}


def test_whatever_differs_from_the_list_is_found_and_named(tenants: Installation) -> None:
    assert faults_of(tenants) == []
    found: dict[str, list[GateFault]] = {}
    for what, (statements, _) in FAULTS.items():
        with changed(tenants, *statements) as connection:
            found[what] = list(compare(connection, GATES))
    assert {what: [(fault.kind, fault.gate) for fault in faults] for what, faults in found.items()} == {
        what: [(kind, "releases")] for what, (_, kind) in FAULTS.items()
    }
    assert all("releases" in fault.message for faults in found.values() for fault in faults)


def test_the_list_differs_from_what_was_installed(tenants: Installation) -> None:
    more = replace(LISTED["releases"], columns=(*LISTED["releases"].columns, "nowhere", "never"))
    with tenants.ledger.transaction() as connection:
        (fault,) = compare(connection, listing(releases=more))
    assert (fault.kind, fault.gate) == ("raw_column_absent", "releases")
    assert "public.releases has no column never, nowhere" in fault.message
    for other in (
        without(LISTED["releases"], "version"),
        replace(LISTED["releases"], tenant_column="project_id"),
        replace(LISTED["releases"], steps=(Step("project_id", "public", "projects", "id"),)),
        replace(LISTED["releases"], table="projects", columns=("id",)),
    ):
        assert faults_of(tenants, listing(releases=other)) == [("gate_outdated", "releases")]


@pytest.mark.parametrize(
    ("statements", "is_found"),
    [
        (["create view analytics_raw.extra as select * from public.users"], False),
        (
            ["create view analytics_raw.extra as select 1", "grant select on analytics_raw.extra to analytics_tenants"],
            True,
        ),
        (["create table analytics_raw.extra (a int)", "grant select on analytics_raw.extra to public"], True),
        (
            [
                "create table analytics_raw.extra (a int)",
                "grant select (a) on analytics_raw.extra to analytics_tenants",
            ],
            True,
        ),
    ],
)
def test_what_can_be_read_beside_the_list_is_found(
    tenants: Installation, statements: list[str], is_found: bool
) -> None:
    with changed(tenants, *statements) as connection:
        found = [(fault.kind, fault.gate) for fault in compare(connection, GATES)]
    assert found == ([("gate_not_listed", "extra")] if is_found else [])


def test_a_gate_that_postgres_refuses_is_named(tenants: Installation) -> None:
    with pytest.raises(
        InvalidSetting, match=r"the gate projects cannot be made of public\.projects.* column of numbers"
    ):
        install(tenants, *listing(projects=replace(LISTED["projects"], tenant_column="key")))
    assert faults_of(tenants) == []
