"""The roles of the installation: set up by an administrator, and looked for by everything that needs them."""

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from kiket_worker.errors import InvalidSetting, LedgerForbidden, RolesNotSetUp
from kiket_worker.ledger.database import Database, statement, translated
from kiket_worker.ledger.patience import Patience
from kiket_worker.shipped import shipped
from kiket_worker.tenants import gates
from kiket_worker.tenants.gates import Gate

# Raised, here and in roles.sql, when code needs something new of it. Older code goes on with a later level.
LEVEL = 5
# A dump of a database has none of them: they are the server's.
ROLES = (
    *("analytics_gates", "analytics_readers", "analytics_tenants"),
    *("kiket_ledger", "kiket_metrics", "kiket_provisioner", "kiket_warden"),
)


@dataclass(frozen=True)
class RolesSetUp:
    """What was set up: the gates that there are, and those of the list whose raw table is absent."""

    gates: tuple[str, ...]
    absent: tuple[str, ...]


def set_up(
    database_url: str, listed: Sequence[Gate], *, shared_schema: str, patience: Patience | None = None
) -> RolesSetUp:
    """Run `deploy/sql/roles.sql` and install the gates, in one transaction, as the superuser of the URL.

    Safe to run again and from several places at once: the later ones wait. Where a lock is not to be had, as of a gate
    that a model reads for long, all of it gives way and is tried again. Raises `LedgerForbidden` where the login is no
    superuser, `LedgerNotMigrated` before `migrate`, and `InvalidSetting` for a gate that cannot be made.
    """
    patience = patience or Patience()
    with translated(), Database(database_url) as database:
        installed = patience.wait_for_locks(lambda: _set_up(database, listed, shared_schema))
    return RolesSetUp(tuple(installed), tuple(gate.name for gate in listed if gate.name not in installed))


def _set_up(database: Database, listed: Sequence[Gate], shared_schema: str) -> list[str]:
    script = shipped("deploy/sql/roles.sql").read_bytes()
    # Not the pool's: there, a lock that is not to be had would be a database that is out of reach.
    with database.connect() as connection:
        connection.execute("lock table kiket_analytics.migration_lock")
        connection.execute("select set_config('kiket.shared_schema', %s, true)", [shared_schema])
        try:
            connection.execute(script)
            return gates.install(connection, listed)
        except (psycopg.errors.FeatureNotSupported, psycopg.errors.ReservedName) as fault:
            raise InvalidSetting(
                f"roles cannot be set up with this DATABASE_URL and DBT_SHARED_SCHEMA: {fault.diag.message_primary}"
            ) from fault
        except psycopg.errors.InsufficientPrivilege as fault:
            raise LedgerForbidden(
                "roles are set up by a superuser, and the login of DATABASE_URL may not do it all: "
                f"{fault.diag.message_primary}"
            ) from fault


def check(database: Database) -> None:
    """Raise `RolesNotSetUp` where `migrate --roles` of this release, or of a later one, was not run on this server."""
    (row,) = database.rows(statement("roles_set_up", __package__), {"roles": list(ROLES)})
    if row["absent"] and row["level"] is not None:
        raise RolesNotSetUp(
            f"database roles are not there, as after a restore to another server: {', '.join(row['absent'])}; run "
            "`kiket-worker migrate --roles` with the DATABASE_URL of a superuser, and then "
            "`kiket-worker tenants provision --all`"
        )
    if row["level"] is None or row["level"] < LEVEL:
        raise RolesNotSetUp(
            "the database roles of this release are not set up: run `kiket-worker migrate --roles` with the "
            "DATABASE_URL of a superuser, or set KIKET_ISOLATION=shared (docs/isolation.md says what that gives up)"
        )
