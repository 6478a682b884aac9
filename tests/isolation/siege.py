"""An installation under attack: the attacker's sessions, and what has to be as it was after each attack."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from kiket_worker.ledger.database import Connection, Database
from kiket_worker.ledger.runs import Run
from kiket_worker.tenants.gates import compare, load_gates
from kiket_worker.tenants.isolation import RoleIsolation
from kiket_worker.tenants.keys import TenantKeys
from kiket_worker.tenants.login import Login, check_identity, session
from kiket_worker.tenants.provisioning import Candidate, Limits, Provisioner
from tests.isolation.attacks import OWN, OWN_READER, VICTIM, Attack, Expected, Refused, Shows, Way
from tests.support.tenants import KEYS, isolation_of, settings_of
from tests.support.whole_refreshes import refresh_by_dbt

ATTACKER = Candidate(1, "acme")
VICTIMS = Candidate(2, "blue-harbor")
_GATES = load_gates(None)
# Of any attack: nothing that hangs is waited for.
_PATIENCE = "-c statement_timeout=20s"

# What of the server nobody but an administrator may change; the attacker's own roles and schema are looked at by drift.
# Sums of hashes, because they need no order.
_SERVER = """
select 'roles' as what, (
    select sum(hashtextextended(found::text, 0))::text from pg_authid as found
    where rolname not in ('analytics_org_acme', 'analytics_ro_acme')
) as digest
union all select 'settings', (
    select sum(hashtextextended(found::text, 0))::text from pg_db_role_setting as found
    where setrole::regrole::text not in ('analytics_org_acme', 'analytics_ro_acme')
)
union all select 'memberships', (
    select sum(hashtextextended(concat_ws(' ', roleid, member, admin_option, inherit_option, set_option), 0))::text
    from pg_auth_members
)
union all select 'schemas', (
    select sum(hashtextextended(found::text, 0))::text from pg_namespace as found
    where nspname <> 'analytics_org_acme' and nspname !~ '^pg_(toast_)?temp_'
)
union all select 'relations', (
    select sum(hashtextextended(
        concat_ws(' ', nspname, relname, relowner, reloptions, relhasrules, relhastriggers, (
            -- A right given and taken back leaves the owner's own written out.
            select array_agg(granted::text order by granted::text)
            from unnest(coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::"char", relowner)))
                as granted
        )), 0
    ))::text
    from pg_class join pg_namespace on pg_namespace.oid = relnamespace
    where nspname <> 'analytics_org_acme' and nspname !~ '^pg_(toast|temp)' and relkind <> 'i'
)
union all select 'functions', (
    select sum(hashtextextended(concat_ws(' ', pg_proc.oid, proowner, prosrc, proacl, proconfig), 0))::text
    from pg_proc join pg_namespace on pg_namespace.oid = pronamespace
    where nspname <> 'analytics_org_acme'
)
union all select 'the rest', concat_ws(
    ' ',
    (select sum(hashtextextended(datname || coalesce(datacl::text, ''), 0)) from pg_database),
    (select count(*) from pg_extension), (select count(*) from pg_language), (select count(*) from pg_event_trigger),
    (select count(*) from pg_publication), (select count(*) from pg_subscription),
    (select count(*) from pg_replication_slots), (select count(*) from pg_largeobject_metadata),
    (select count(*) from pg_prepared_xacts), (select count(*) from pg_cast), (select count(*) from pg_tablespace),
    (select sum(hashtextextended(parname || paracl::text, 0)) from pg_parameter_acl)
)
"""
_TABLES = """
select format('%I.%I', nspname, relname) as name
from pg_class join pg_namespace on pg_namespace.oid = relnamespace
where relkind in ('r', 'v') and nspname in ({schemas})
"""


@dataclass(frozen=True)
class Answer:
    """What came of an attack in a session: the error or the rows of the last statement, and what was said."""

    error: psycopg.Error | None
    rows: tuple[tuple[Any, ...], ...]
    notices: frozenset[str]


def judge(expected: Expected, answer: Answer) -> None:
    """Fail unless the answer is the one expected."""
    if isinstance(expected, Refused):
        assert answer.error is not None, f"it was carried out, and gave {answer.rows[:5]}"
        assert type(answer.error) is expected.error, repr(answer.error)
        assert expected.words in str(answer.error.diag.message_primary)
        return
    assert answer.error is None, repr(answer.error)
    if isinstance(expected, Shows):
        assert answer.rows == expected.rows
    if expected.notices is not None:
        assert answer.notices == expected.notices


@dataclass
class Siege:
    """The sample platform with roles, its victim built by dbt. `url` is the superuser's, for arranging and looking."""

    url: str
    ledger_url: str
    folder: Path
    server_log: Path
    database: Database
    admin: Connection
    _bystanders: list[psycopg.Connection[Any]] = field(default_factory=list)
    _known: dict[str, Any] = field(default_factory=dict)

    # The worker's parts.

    @property
    def isolation(self) -> RoleIsolation:
        isolation = isolation_of(self.ledger_url)
        assert isinstance(isolation, RoleIsolation)
        return isolation

    @property
    def address(self) -> dict[str, str]:
        parts = conninfo_to_dict(self.url)
        return {"host": str(parts["host"]), "dbname": str(parts["dbname"])}

    def refresh(self, slug: str, *, docs: bool = False) -> Run:
        """A whole refresh, by the pipeline and real dbt; the run as it has ended."""
        return refresh_by_dbt(self.ledger_url, self.database, slug, self.folder / "artifacts", docs=docs)

    def artifact(self, run: Run, name: str) -> bytes:
        """A file of a run's archive as it is stored."""
        return (
            self.folder / "artifacts" / run.organization_slug / str(run.run_id) / str(run.attempt) / name
        ).read_bytes()

    # The attacker's sessions.

    def login(self, role: str, keys: TenantKeys = KEYS) -> Login:
        return Login(role, keys.password(role, keys.current))

    def connect(self, role: str, **options: str) -> psycopg.Connection[tuple[Any, ...]]:
        """A session of a tenant's own login, each statement committed at once."""
        login = self.login(role)
        options = {"options": _PATIENCE} | options
        address = make_conninfo("", **self.address | {"user": login.role, "password": login.password} | options)
        return psycopg.connect(address, autocommit=True)

    def attack(self, attack: Attack, way: Way) -> Answer:
        """Lay the attack's trap, and send its SQL in a session of its own."""
        self.lay_trap(attack)
        notices: set[str] = set()
        with self.connect(OWN_READER if way is Way.DASHBOARD else OWN) as connection:
            connection.add_notice_handler(lambda said: notices.add(str(said.message_primary)))
            rows: tuple[tuple[Any, ...], ...] = ()
            try:
                if way is Way.DASHBOARD:
                    # Only a default, as a hostile query knows: what is refused has to be refused without it.
                    connection.execute("set default_transaction_read_only = off")
                for statement in attack.statements:
                    cursor = connection.execute(statement.encode())
                    rows = tuple(cursor.fetchall()) if cursor.description else ()
            except psycopg.Error as fault:
                return Answer(fault, (), frozenset(notices))
        return Answer(None, rows, frozenset(notices))

    def lay_trap(self, attack: Attack) -> None:
        with self.connect(OWN) as connection:
            for statement in attack.before:
                connection.execute(statement.encode())

    # What has to be as it was.

    def remember(self) -> None:
        """From now on, everything that is not the attacker's has to be as it is now."""
        self._known = self._state()

    def assert_unharmed(self) -> None:
        """Fail if anything of others has changed, a gate differs from the list, or the victim cannot be refreshed."""
        state = self._state()
        changed = {what for what in self._known.keys() | state.keys() if self._known.get(what) != state.get(what)}
        assert changed == set()
        with self.database.transaction() as connection:
            assert list(compare(connection, _GATES)) == []
        for bystander in self._bystanders:
            assert bystander.execute("select 1").fetchone() == (1,)

    def _state(self) -> dict[str, Any]:
        """A digest of raw rows, ledger, shared relations and catalogs; and what the victim sees, once it has built."""
        state = _digests(self.admin, "'public', 'kiket_analytics', 'analytics_shared'")
        state |= {row["what"]: row["digest"] for row in self.admin.execute(_SERVER.encode()).fetchall()}
        with session(self.address, self.login(VICTIM)) as victim:
            check_identity(victim, VICTIM, VICTIMS.organization_id)
            # What a refresh does: it builds a table from a gate. The gates show a superuser nothing.
            victim.execute("create table analytics_org_blue_harbor.rebuilt as select * from analytics_raw.issues")
            state |= _digests(victim, "'analytics_org_blue_harbor'")
            counted = victim.execute(
                "select organization_id, count(*) as issues from analytics_org_blue_harbor.rebuilt"
                " group by organization_id"
            ).fetchall()
            victim.execute("drop table analytics_org_blue_harbor.rebuilt")
        assert counted == [{"organization_id": 2, "issues": 40}]
        return state

    def mend(self) -> tuple[str, ...]:
        """Mend the attacker's role as its next refresh would; what had drifted. Fails if it is not as it should be."""
        limits = Limits.from_settings(settings_of(self.ledger_url))
        provisioner = Provisioner(KEYS, limits)
        with self.database.transaction() as connection:
            drift = provisioner.drift(connection, ATTACKER)
        self.isolation.log_in(self.database, ATTACKER, OWN, 0)
        with self.database.transaction() as connection:
            assert provisioner.drift(connection, ATTACKER) == (), "its next refresh did not mend it"
        return drift

    def rescue(self) -> None:
        """Bring the attacker's role back by a superuser's means, where the product's own did not."""
        for login in (OWN, OWN_READER):
            self.admin.execute(f"alter role {login} reset all".encode())
        self.admin.execute("drop schema if exists analytics_org_acme cascade")
        self.isolation.log_in(self.database, ATTACKER, OWN, 0)

    @contextmanager
    def bystanders(self) -> Iterator[None]:
        """Sessions of the victim and of the worker, which every attack has to leave alone."""
        with (
            self.connect(VICTIM, application_name="kiket-run-of-blue-harbor") as victim,
            psycopg.connect(self.ledger_url, autocommit=True) as worker,
        ):
            victim.execute("select 'a secret of blue-harbor'")
            worker.execute("select 'a secret of the worker'")
            self._bystanders = [victim, worker]
            yield
            self._bystanders = []

    @contextmanager
    def broken_by(self, breaking: str, mending: str) -> Iterator[None]:
        """While the block lasts, a protection is away: shows that a check would notice."""
        self.admin.execute(breaking.encode())
        try:
            yield
        finally:
            self.admin.execute(mending.encode())


def _digests(connection: Connection, schemas: str) -> dict[str, Any]:
    """The rows of each table and view in the schemas as a number."""
    tables = [row["name"] for row in connection.execute(_TABLES.format(schemas=schemas).encode()).fetchall()]
    query = " union all ".join(
        f"select '{table}' as what,"
        f" (select sum(hashtextextended({_content(table)}, 0)) from {table} as found) as digest"
        for table in tables
    )
    return {row["what"]: row["digest"] for row in connection.execute(query.encode()).fetchall()}


def _content(table: str) -> str:
    # But for when it was last mended.
    return "(to_jsonb(found) - 'provisioned_at')::text" if table == "kiket_analytics.tenants" else "found::text"
