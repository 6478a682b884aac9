"""Provisioning: an organisation's schema, its role and the read-only twin are made, mended, given new keys, dropped."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from kiket_worker import events
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
from kiket_worker.ledger.database import Connection, Database, statement
from kiket_worker.settings import Settings
from kiket_worker.tenants.keys import TenantKeys
from kiket_worker.tenants.schema import SCHEMA_PREFIX, reader_name, schema_name

_BATCH = 50


@dataclass(frozen=True)
class Limits:
    """What a tenant's sessions may take. The quota is of all its relations together."""

    connections: int
    statement_seconds: int
    idle_seconds: int
    temp_megabytes: int
    quota_megabytes: int

    @classmethod
    def from_settings(cls, settings: Settings) -> "Limits":
        """The limits of the `KIKET_TENANT_*` variables."""
        return cls(
            connections=settings.tenant_connections,
            statement_seconds=settings.tenant_statement_seconds,
            idle_seconds=settings.tenant_idle_seconds,
            temp_megabytes=settings.tenant_temp_megabytes,
            quota_megabytes=settings.tenant_quota_megabytes,
        )


@dataclass(frozen=True)
class Candidate:
    """An organisation to provision."""

    organization_id: int
    slug: str


@dataclass(frozen=True)
class Provisioned:
    """How it went: what was made or mended (nothing, where all was as it should be), or the fault."""

    candidate: Candidate
    drift: tuple[str, ...] = ()
    fault: KiketError | None = None

    @property
    def outcome(self) -> str:
        """In a word, as the command line prints it."""
        if self.fault:
            return "failed"
        return "mended" if self.drift else "unchanged"


@dataclass(frozen=True)
class Rotated:
    """What became of one tenant's keys: rotated, busy (being refreshed, which rotates them the next time) or failed."""

    schema_name: str
    outcome: str
    fault: KiketError | None = None


class Provisioner:
    """Makes what an organisation needs in the database, by the functions of `deploy/sql/roles.sql`."""

    def __init__(self, keys: TenantKeys, limits: Limits) -> None:
        self._keys = keys
        self._limits = limits

    def drift(self, connection: Connection, candidate: Candidate) -> tuple[str, ...]:
        """In what the organisation's roles and schema differ from what they should be, but for passwords."""
        row = connection.execute(statement("drift_of_tenant", __package__), self._parameters(candidate)).fetchone()
        assert row is not None
        return tuple(row["drift"])

    def provision(self, connection: Connection, candidate: Candidate, *, epoch: int | None = None) -> None:
        """Make or mend the organisation's schema and roles, in the caller's transaction.

        `epoch` is that of the caller's own lease of the schema. Raises `InvalidSlug`, `SchemaTaken`, `TenantBusy` where
        new passwords would disturb somebody else's refresh, and `TenantNotIsolated`.
        """
        with _said_of(candidate.slug):
            schema = schema_name(candidate.slug)
            _reset_logins(connection, schema)
            foreign_owner = self._call(connection, candidate, epoch)
            if self._adopt(connection, schema, foreign_owner):
                # For what could not be done before: the twin's rights on what is the tenant's now.
                self._call(connection, candidate, epoch)

    def provision_probe(self, connection: Connection, probe: Candidate) -> None:
        """Make what a probe needs: a tenant that no organisation is, to record dbt. Raises what `provision` raises."""
        with _said_of(probe.slug):
            connection.execute(
                statement("provision_tenant", __package__),
                self._parameters(probe) | {"epoch": None, "probe_slug": probe.slug},
            )

    def provision_shared(self, connection: Connection, *, epoch: int | None = None) -> None:
        """Give the role of the shared schema its password and settings. Raises `TenantBusy`."""
        row = connection.execute("select shared_schema from kiket_analytics.roles").fetchone()
        assert row is not None
        version = self._keys.current
        with _said_of(row["shared_schema"]):
            _reset_logins(connection, row["shared_schema"])
            connection.execute(
                statement("provision_shared", __package__),
                self._of_limits()
                | {
                    "verifier": self._keys.verifier(row["shared_schema"], version),
                    "key_version": version,
                    "epoch": epoch,
                },
            )

    def provision_all(self, database: Database, candidates: Sequence[Candidate]) -> Iterator[list[Provisioned]]:
        """Provision organisations in batches, each a transaction of its own; give what became of each batch.

        The fault of one organisation leaves the others alone. What was given stays, if the rest is interrupted.
        """
        for start in range(0, len(candidates), _BATCH):
            with database.transaction() as connection:
                done = [self._provision_one(connection, candidate) for candidate in candidates[start : start + _BATCH]]
            for one in done:
                if one.drift:
                    events.TENANT_PROVISIONED.log(organization=one.candidate.slug, drift=list(one.drift))
            yield done

    def rotate(self, database: Database) -> Iterator[list[Rotated]]:
        """Give every tenant, and the shared schema, passwords of the current key; in batches, as `provision_all`."""
        parameters = {"key_version": self._keys.current, "batch": _BATCH, "after": ""}
        while rows := database.rows(statement("tenants_of_older_keys", __package__), parameters):
            with database.transaction() as connection:
                done = [self._rotate_one(connection, row) for row in rows]
            yield done
            parameters["after"] = rows[-1]["schema_name"]

    def _rotate_one(self, connection: Connection, row: dict[str, Any]) -> Rotated:
        schema: str = row["schema_name"]
        try:
            with connection.transaction():
                if row["is_shared"]:
                    self.provision_shared(connection)
                elif row["slug"] is None:
                    raise UnknownOrganization(f"(of {schema})")
                else:
                    self.provision(connection, Candidate(row["organization_id"], row["slug"]))
        except TenantBusy:
            return Rotated(schema, "busy")
        except KiketError as fault:
            return Rotated(schema, "failed", fault)
        return Rotated(schema, "rotated")

    def _provision_one(self, connection: Connection, candidate: Candidate) -> Provisioned:
        try:
            schema_name(candidate.slug)
            drift = self.drift(connection, candidate)
            with connection.transaction():
                # Also where nothing differs: a password cannot be seen.
                self.provision(connection, candidate)
        except KiketError as fault:
            return Provisioned(candidate, fault=fault)
        return Provisioned(candidate, drift)

    def _call(self, connection: Connection, candidate: Candidate, epoch: int | None) -> str | None:
        row = connection.execute(
            statement("provision_tenant", __package__),
            self._parameters(candidate) | {"epoch": epoch, "probe_slug": None},
        ).fetchone()
        assert row is not None
        owner: str | None = row["foreign_owner"]
        return owner

    def _adopt(self, connection: Connection, schema: str, foreign_owner: str | None) -> bool:
        """Give the tenant's role its schema and its models where another role has them, with the login's own rights.

        Gives whether there was anything to give.
        """
        owner = sql.Identifier(schema)
        found = connection.execute(statement("adoptable_relations", __package__), {"schema_name": schema}).fetchall()
        kinds = {"r": "table", "v": "view", "m": "materialized view"}
        try:
            if foreign_owner:
                connection.execute(sql.SQL("alter schema {} owner to {}").format(sql.Identifier(schema), owner))
            for row in found:
                connection.execute(
                    sql.SQL("alter {} {} owner to {}").format(
                        sql.SQL(kinds[row["relkind"]]), sql.Identifier(schema, row["relname"]), owner
                    )
                )
        except psycopg.errors.InsufficientPrivilege as fault:
            raise TenantNotIsolated(
                f"schema {schema}, or a model in it, is owned by {foreign_owner or found[0]['owner']} and not by the "
                "organisation's own role: run `kiket-worker tenants provision` once with the DATABASE_URL of a "
                "superuser"
            ) from fault
        return bool(foreign_owner or found)

    def _parameters(self, candidate: Candidate) -> dict[str, object]:
        schema, reader, version = schema_name(candidate.slug), reader_name(candidate.slug), self._keys.current
        return self._of_limits() | {
            "organization_id": candidate.organization_id,
            "schema_name": schema,
            "reader_name": reader,
            "verifier": self._keys.verifier(schema, version),
            "reader_verifier": self._keys.verifier(reader, version),
            "key_version": version,
        }

    def _of_limits(self) -> dict[str, object]:
        return {
            "connection_limit": self._limits.connections,
            "temp_megabytes": self._limits.temp_megabytes,
            "statement_seconds": self._limits.statement_seconds,
            "idle_seconds": self._limits.idle_seconds,
        }


def drop(database: Database, slug: str) -> None:
    """Remove a tenant's schema, its roles and all that they own. The ledger and the artifacts stay.

    Raises `UnknownTenant`, and `TenantBusy` while the schema is being refreshed.
    """
    schema = schema_name(slug)
    # Within the transaction's own translation, which takes a schema in use for a Postgres that is away.
    with database.transaction() as connection, _said_of(slug):
        row = connection.execute("select kiket_analytics.drop_tenant(%s) as dropped", [schema]).fetchone()
    if not row or not row["dropped"]:
        raise UnknownTenant(
            f"no organisation was provisioned as {slug!r}; `kiket-worker tenants list` names those there are"
        )


def drop_probes(database: Database, prefix: str, is_left: Callable[[str], bool]) -> int:
    """Remove the tenants made up with slugs of this prefix that were left by who was killed; give how many there were.

    Of a slug, as far as its schema tells it, the caller knows whether it is in use.
    """
    found = database.rows(statement("probes", __package__), {"prefix": prefix.replace("-", "_")})
    left = [row["schema_name"] for row in found if is_left(row["schema_name"].removeprefix(SCHEMA_PREFIX))]
    for schema in left:
        with database.transaction() as connection, _said_of(schema):
            connection.execute("select kiket_analytics.drop_tenant(%s)", [schema])
    return len(left)


def key_versions(database: Database) -> dict[int, int]:
    """How many tenants have passwords of each version of the key."""
    rows = database.rows(b"select key_version, count(*) as tenants from kiket_analytics.tenants group by key_version")
    return {row["key_version"]: row["tenants"] for row in rows}


def _reset_logins(connection: Connection, schema: str) -> None:
    """Reset the settings of those roles of a tenant that have set what no function of `deploy/sql/roles.sql` can."""
    row = connection.execute("select kiket_analytics.lend_logins(%s) as lent", [schema]).fetchone()
    assert row is not None
    if row["lent"]:
        connection.execute("set local lock_timeout = '5s'")
    database = sql.Identifier(connection.info.dbname)
    for login in map(sql.Identifier, row["lent"]):
        connection.execute(sql.SQL("set local role {}").format(login))
        connection.execute(sql.SQL("alter role {} reset all").format(login))
        connection.execute(sql.SQL("alter role {} in database {} reset all").format(login, database))
        connection.execute("reset role")
    if row["lent"]:
        connection.execute("select kiket_analytics.take_back_logins(%s::name[])", [row["lent"]])


@contextmanager
def _said_of(slug: str) -> Iterator[None]:
    """Raise what the functions of roles.sql refuse by its name in the product."""
    try:
        yield
    except psycopg.errors.ObjectInUse as fault:
        raise TenantBusy(
            f"{slug} is being refreshed; try again when `kiket-worker runs list` shows that its run has ended"
        ) from fault
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, psycopg.errors.InternalError_) as fault:
        # The last is how Postgres says that somebody has changed the role at the same moment.
        raise TenantBusy(
            f"a session holds the database role or the lease of {slug}; it is ended when it takes longer than it may"
        ) from fault
    except psycopg.errors.InvalidPassword as fault:
        raise TenantLoginFailed(
            f"{fault.diag.message_primary}, and KIKET_TENANT_KEYS has only older ones here: give every process the same"
        ) from fault
    except psycopg.errors.NoDataFound as fault:
        raise UnknownOrganization(slug) from fault
    except psycopg.errors.InvalidName as fault:
        raise InvalidSlug(f"slug {slug!r} cannot be a schema name") from fault
    except psycopg.errors.UniqueViolation as fault:
        raise SchemaTaken(f"the schema of {slug!r} belongs to another organisation: rename one of them") from fault
    except (psycopg.errors.InvalidRoleSpecification, psycopg.errors.DependentObjectsStillExist) as fault:
        raise TenantNotIsolated(
            f"the database role of {slug} is not as it may be: {fault.diag.message_primary}. "
            f"{fault.diag.message_hint or fault.diag.message_detail or ''}".rstrip()
        ) from fault
    except psycopg.errors.InsufficientPrivilege as fault:
        raise TenantNotIsolated(
            f"the database role of {slug} was made by somebody else, or was given more than it may have: "
            f"{fault.diag.message_primary}. As a superuser, drop that role, or grant it to kiket_provisioner with "
            "admin option, and revoke every other role from it"
        ) from fault
