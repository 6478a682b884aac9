"""Who keeps organisations apart; the pipeline does not know which.

The database, by a role for each (`RoleIsolation`), or only the models' own filters, where the installation cannot
create roles (`SharedRole`).
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Protocol

from psycopg import sql

from kiket_worker import events
from kiket_worker.errors import TenantLoginFailed, TenantNotIsolated, UnknownTenant
from kiket_worker.ledger.database import Connection, Database, statement
from kiket_worker.ledger.runs import RunId
from kiket_worker.settings import IsolationMode
from kiket_worker.tenants import roles
from kiket_worker.tenants.gates import GATES_SCHEMA
from kiket_worker.tenants.keys import TenantKeys
from kiket_worker.tenants.login import CheckedLogin, Login, check_identity, open_session, session
from kiket_worker.tenants.provisioning import Candidate, Limits, Provisioner, drop, drop_probes
from kiket_worker.tenants.schema import SCHEMA_PREFIX, reader_name
from kiket_worker.tenants.sessions import (
    Overrun,
    end_named_sessions,
    end_overrunning_sessions,
    end_tenant_sessions,
)

# How long a twin's password is taken to be right after it was tried; of so many twins at a time.
_READER_SECONDS = 600
_READERS_KNOWN = 10_000
# Longer than the time-outs that a tenant's role is set to: those end a statement with a better message.
PATIENCE_SECONDS = 5


class Isolation(Protocol):
    """What a refresh needs to know of roles. `raw_schema` and `ledger_schema` are where models find the raw tables."""

    mode: IsolationMode
    raw_schema: str
    ledger_schema: str
    limits: Limits

    def check(self, database: Database) -> None:
        """Raise what keeps a worker from beginning at all."""
        ...

    def log_in(self, database: Database, candidate: Candidate, schema: str, epoch: int) -> CheckedLogin | None:
        """As whom dbt connects for an organisation whose lease the caller holds; None: as the shared login."""
        ...

    def session(
        self, database: Database, candidate: Candidate, schema: str, epoch: int
    ) -> AbstractContextManager[Connection]:
        """A session as whom dbt connects for an organisation whose lease the caller holds, until the block ends."""
        ...

    def log_in_shared(self, database: Database, schema: str, epoch: int) -> Login | None:
        """As whom dbt builds the shared schema, whose lease the caller holds; None: as the shared login."""
        ...

    def probe(self, database: Database, probe: Candidate, schema: str) -> AbstractContextManager[Login | None]:
        """A tenant that is made up, with its schema, until the block ends; None: dbt connects as the shared login."""
        ...

    def empty_sources(self, probe: Candidate, schema: str) -> AbstractContextManager[tuple[str, str]]:
        """Where a probe finds the raw tables and the ledger's without any rows, until the block ends."""
        ...

    def drop_probes(self, database: Database, prefix: str, is_left: Callable[[str], bool] = lambda _: True) -> None:
        """Remove those whose slugs begin so and that were left by who was killed, as the caller knows of a slug."""
        ...

    def end_sessions(self, connection: Connection, run_id: RunId, schema: str) -> int:
        """End every session that writes the schema and wait until they are gone; give how many there were."""
        ...

    def end_overruns(self, connection: Connection, schema: str) -> list[Overrun]:
        """End the schema's sessions that take longer than they may."""
        ...


class RoleIsolation:
    """A database role for each organisation, provisioned at its first refresh and mended when it has drifted."""

    mode = IsolationMode.ROLES
    raw_schema = ledger_schema = GATES_SCHEMA

    def __init__(self, keys: TenantKeys, limits: Limits, address: Mapping[str, str]) -> None:
        self.limits = limits
        self._keys = keys
        self._address = address
        self._provisioner = Provisioner(keys, limits)
        self._readers_checked: dict[str, float] = {}

    def check(self, database: Database) -> None:
        """Raise `RolesNotSetUp` where `migrate --roles` is missing."""
        roles.check(database)

    def log_in(self, database: Database, candidate: Candidate, schema: str, epoch: int) -> CheckedLogin:
        """The organisation's own role. Raises `TenantLoginFailed` and `TenantNotIsolated`, after one try to mend it."""
        with database.transaction() as connection:
            drift = self._provisioner.drift(connection, candidate)
        if drift:
            self._provision(database, candidate, drift, epoch)
        login = Login(schema, self._keys.password(schema, self._keys.current))
        try:
            checked = self._checked(login, candidate.organization_id)
        except (TenantLoginFailed, TenantNotIsolated):
            # A password that the tenant has changed cannot be seen from outside, nor sessions that use up its limit.
            with database.transaction() as connection:
                end_tenant_sessions(connection, schema)
            self._provision(database, candidate, ("login",), epoch)
            checked = self._checked(login, candidate.organization_id)
        try:
            self._mend_reader(database, candidate, epoch)
        except BaseException:
            checked.close()
            raise
        return CheckedLogin(login.role, login.password, checked)

    @contextmanager
    def session(self, database: Database, candidate: Candidate, schema: str, epoch: int) -> Iterator[Connection]:
        """Of the organisation's own role. Raises as `log_in` does."""
        with self.log_in(database, candidate, schema, epoch).session as connection:
            yield connection

    def log_in_shared(self, database: Database, schema: str, epoch: int) -> Login:
        """The role of the shared schema. Raises `TenantLoginFailed` and `TenantNotIsolated`."""
        with database.transaction() as connection:
            self._provisioner.provision_shared(connection, epoch=epoch)
        login = Login(schema, self._keys.password(schema, self._keys.current))
        self._checked(login, None).close()
        return login

    @contextmanager
    def probe(self, database: Database, probe: Candidate, schema: str) -> Iterator[Login]:
        """A role of its own, which sees rows of no organisation."""
        try:
            with database.transaction() as connection:
                self._provisioner.provision_probe(connection, probe)
            yield Login(schema, self._keys.password(schema, self._keys.current))
        finally:
            with suppress(UnknownTenant):
                drop(database, probe.slug)

    @contextmanager
    def empty_sources(self, probe: Candidate, schema: str) -> Iterator[tuple[str, str]]:
        """The gates, which show a probe's role nothing where no organisation has its id."""
        yield self.raw_schema, self.ledger_schema

    def drop_probes(self, database: Database, prefix: str, is_left: Callable[[str], bool] = lambda _: True) -> None:
        """By the table of tenants."""
        drop_probes(database, prefix, is_left)

    def end_sessions(self, connection: Connection, run_id: RunId, schema: str) -> int:  # of the protocol
        """By the role, which no session can change. Raises `SessionsNotEnded`."""
        return end_tenant_sessions(connection, schema)

    def end_overruns(self, connection: Connection, schema: str) -> list[Overrun]:
        """By the role, from outside."""
        return end_overrunning_sessions(
            connection,
            schema,
            statement_seconds=self.limits.statement_seconds + PATIENCE_SECONDS,
            idle_seconds=self.limits.idle_seconds + PATIENCE_SECONDS,
        )

    def _provision(self, database: Database, candidate: Candidate, drift: tuple[str, ...], epoch: int) -> None:
        with database.transaction() as connection:
            self._provisioner.provision(connection, candidate, epoch=epoch)
        events.TENANT_PROVISIONED.log(organization=candidate.slug, drift=list(drift))

    def _mend_reader(self, database: Database, candidate: Candidate, epoch: int) -> None:
        """Give the twin its password back, which a dashboard's query may have changed; not looked at each time."""
        role = reader_name(candidate.slug)
        if time.monotonic() < self._readers_checked.get(role, -_READER_SECONDS) + _READER_SECONDS:
            return
        if len(self._readers_checked) >= _READERS_KNOWN:
            self._readers_checked.clear()
        self._readers_checked[role] = time.monotonic()
        try:
            with session(self._address, Login(role, self._keys.password(role, self._keys.current))):
                pass
        except TenantLoginFailed:
            # Also where dashboards use up its connections, which hold up no refresh.
            self._provision(database, candidate, ("login",), epoch)

    def _checked(self, login: Login, organization_id: int | None) -> Connection:
        connection = open_session(self._address, login)
        try:
            check_identity(connection, login.role, organization_id)
        except BaseException:
            connection.close()
            raise
        return connection


class SharedRole:
    """One database role for all organisations, where none can be created. The database does not keep them apart."""

    mode = IsolationMode.SHARED
    raw_schema = "public"
    ledger_schema = "kiket_analytics"

    def __init__(self, limits: Limits, address: Mapping[str, str], login: Login) -> None:
        self.limits = limits
        self._address = address
        self._login = login

    def check(self, database: Database) -> None:
        """Nothing is needed beside the ledger."""

    def log_in(self, database: Database, candidate: Candidate, schema: str, epoch: int) -> None:
        """The shared login; dbt creates the schema as it."""

    def session(
        self, database: Database, candidate: Candidate, schema: str, epoch: int
    ) -> AbstractContextManager[Connection]:
        """Of the shared login. Raises `TenantLoginFailed`."""
        return session(self._address, self._login)

    def log_in_shared(self, database: Database, schema: str, epoch: int) -> None:
        """The shared login; dbt creates the schema as it."""

    @contextmanager
    def probe(self, database: Database, probe: Candidate, schema: str) -> Iterator[None]:
        """No role; dbt creates the schema as the shared login, which drops it again."""
        try:
            yield
        finally:
            self._drop(schema)

    @contextmanager
    def empty_sources(self, probe: Candidate, schema: str) -> Iterator[tuple[str, str]]:
        """Views of the tables without rows, in a schema beside the probe's own."""
        sources = f"{schema}_raw"
        try:
            with session(self._address, self._login) as connection, connection.transaction():
                connection.execute(sql.SQL("create schema {}").format(sql.Identifier(sources)))
                names = {"schemas": [self.raw_schema, self.ledger_schema]}
                for row in connection.execute(statement("readable_relations", __package__), names).fetchall():
                    # Names of the platform's tables come first, should both schemas have one.
                    connection.execute(
                        sql.SQL("create or replace view {} as select * from {} where false").format(
                            sql.Identifier(sources, row["relation"]),
                            sql.Identifier(row["schema_name"], row["relation"]),
                        )
                    )
            yield sources, sources
        finally:
            self._drop(sources)

    def drop_probes(self, database: Database, prefix: str, is_left: Callable[[str], bool] = lambda _: True) -> None:
        """By the names of schemas."""
        parameters = {"prefix": prefix.replace("-", "_")}
        for row in database.rows(statement("schemas_of_probes", __package__), parameters):
            if is_left(row["schema_name"].removeprefix(SCHEMA_PREFIX)):
                self._drop(row["schema_name"])

    def _drop(self, schema: str) -> None:
        with session(self._address, self._login) as connection:
            connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(schema)))

    def end_sessions(self, connection: Connection, run_id: RunId, schema: str) -> int:  # of the protocol
        """By the run's name, which a model may have changed. Raises `SessionsNotEnded`."""
        return end_named_sessions(connection, run_id)

    def end_overruns(self, connection: Connection, schema: str) -> list[Overrun]:  # of the protocol
        """None: whose sessions they are, only names tell. The run's time limit bounds them."""
        return []


def size_bytes(connection: Connection, schema: str, *, patience_seconds: float) -> int:
    """How much room a tenant's committed relations take, in the caller's transaction.

    A relation that stays locked for longer than the caller has patience raises psycopg's `LockNotAvailable`.
    """
    connection.execute("select set_config('lock_timeout', %s, true)", [str(max(1, round(1000 * patience_seconds)))])
    row = connection.execute(statement("size_of_tenant", __package__), {"schema_name": schema}).fetchone()
    assert row is not None
    return int(row["bytes"])
