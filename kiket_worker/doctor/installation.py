"""What is wrong with an installation: its ledger, its roles and gates, and what keeps organisations apart."""

from collections.abc import Iterator, Mapping

from kiket_worker.doctor.finding import Finding, error, info, warning
from kiket_worker.doctor.grants import examine_grants
from kiket_worker.errors import (
    InvalidSetting,
    LedgerForbidden,
    LedgerNotMigrated,
    RolesNotSetUp,
    TenantLoginFailed,
)
from kiket_worker.ledger.database import Database, statement
from kiket_worker.ledger.level import check_level, later_migrations
from kiket_worker.settings import IsolationMode, Settings
from kiket_worker.tenants import gates, roles
from kiket_worker.tenants.gates import Gate
from kiket_worker.tenants.keys import TenantKeys
from kiket_worker.tenants.login import Login, session

_SET_UP_AGAIN = "run `kiket-worker migrate --roles` with the DATABASE_URL of a superuser"


def examine_installation(
    settings: Settings, database: Database, listed: tuple[Gate, ...], address: Mapping[str, str]
) -> Iterator[Finding]:
    """Everything that is found. `address` is where tenants log in, in libpq's words."""
    try:
        check_level(database)
    except (LedgerNotMigrated, LedgerForbidden) as fault:
        yield error(fault.kind, str(fault), "run `kiket-worker migrate`, and `migrate --roles` where roles are used")
        return
    if later := later_migrations(database):
        yield info(
            "ledger_newer",
            f"the ledger has migrations of a later release: {', '.join(later)}",
            "nothing, while a deploy goes on; else install that release here",
        )
    if settings.isolation is IsolationMode.SHARED:
        yield from _shared_role(database, settings)
        yield from _strange_schemas(database)
        return
    try:
        roles.check(database)
    except RolesNotSetUp as fault:
        yield error(fault.kind, str(fault), _SET_UP_AGAIN)
        return
    yield from _keys(database, settings)
    yield from _strange_schemas(database)
    yield from _rights(database)
    yield from examine_grants(database)
    yield from _passwords(database, address)
    yield from _gates(database, listed)


def _shared_role(database: Database, settings: Settings) -> Iterator[Finding]:
    yield warning(
        "isolation_shared",
        "KIKET_ISOLATION=shared: all organisations are built by one database role, so only the models' own filters "
        "keep their rows apart; a model without a filter, or SQL that means harm, can read and change every "
        "organisation's data",
        "where roles can be created, run `kiket-worker migrate --roles` and leave KIKET_ISOLATION out; otherwise "
        "publish only models that somebody has read (docs/isolation.md)",
    )
    row = database.rows(
        b"select rolsuper from pg_roles where rolname = coalesce(%(user)s, current_user)", {"user": settings.dbt_user}
    )
    if row and row[0]["rolsuper"]:
        yield error(
            "dbt_login_powerful",
            "dbt connects as a superuser, so a model can read and change everything on the server",
            "set DBT_USER and DBT_PASSWORD to a role that may read the raw tables and create schemas, and nothing else",
        )


def _keys(database: Database, settings: Settings) -> Iterator[Finding]:
    try:
        keys = TenantKeys.from_settings(settings)
    except InvalidSetting as fault:
        yield error(fault.kind, str(fault), "set KIKET_TENANT_KEYS as for the workers")
        return
    row = database.rows(statement("strays", __package__), {"key_version": keys.current})[0]
    if row["older_keys"]:
        yield warning(
            "older_keys",
            f"{row['older_keys']} database roles have passwords of another key than version {keys.current}",
            "run `kiket-worker tenants rotate-keys`, and keep the older keys in KIKET_TENANT_KEYS until it says nobody",
        )
    if row["gone_tenants"]:
        yield warning(
            "tenant_without_organization",
            f"no organisation has these schemas any more: {', '.join(row['gone_tenants'])}",
            "remove each with `kiket-worker tenants drop`, giving its name without `analytics_org_` as the slug",
        )


def _strange_schemas(database: Database) -> Iterator[Finding]:
    if rows := database.rows(statement("strange_schemas", __package__)):
        yield warning(
            "schema_without_tenant",
            "these schemas are no organisation's, and nobody refreshes them: "
            f"{', '.join(row['schema_name'] for row in rows)}",
            "drop them by hand, if nobody needs them",
        )


def _rights(database: Database) -> Iterator[Finding]:
    row = database.rows(statement("rights", __package__))[0]
    if row["login_is_superuser"]:
        yield warning(
            "ledger_login_powerful",
            f"DATABASE_URL logs in as {row['login']}, a superuser",
            "give the role kiket_ledger a password and let ticker and workers log in as it",
        )
    if row["public_rights"]:
        yield error(
            "public_rights",
            f"everybody who can log in, and so each organisation, may {', '.join(row['public_rights'])}",
            _SET_UP_AGAIN,
        )
    if row["powerful_roles"]:
        yield error(
            "role_powerful",
            f"these roles have more rights than they need: {', '.join(row['powerful_roles'])}",
            "see `\\du` in psql; take away superuser, createdb, createrole, replication, bypassrls and login",
        )
    if row["strange_grants"]:
        yield error(
            "role_granted",
            f"somebody has granted {', '.join(row['strange_grants'])}: organisations or workers have more rights by it",
            "revoke it",
        )
    if row["other_databases"]:
        yield warning(
            "other_databases_open",
            f"organisations' roles may connect to {', '.join(row['other_databases'])}",
            "in each: `revoke connect on database NAME from public`, after a grant to those who need it",
        )
    if row["sharing_databases"]:
        yield error(
            "roles_shared_between_databases",
            f"the databases {', '.join(row['sharing_databases'])} of this server use the same roles: organisations of "
            "the same slug in two installations would be one role",
            "give each installation a Postgres of its own",
        )
    if row["prepared_transactions"]:
        yield warning(
            "prepared_transactions",
            "max_prepared_transactions is not 0: an organisation could leave a prepared transaction behind, which "
            "keeps its locks after its session was ended",
            "set max_prepared_transactions = 0, unless the platform needs it",
        )


def _passwords(database: Database, address: Mapping[str, str]) -> Iterator[Finding]:
    """Whether Postgres asks for passwords at all: if not, every role is anybody's."""
    shared = database.rows(b"select shared_schema from kiket_analytics.roles")[0]["shared_schema"]
    try:
        with session(address, Login(shared, "not-the-password")):
            pass
    except TenantLoginFailed:
        return
    yield error(
        "passwords_not_asked",
        f"Postgres lets anybody in as {shared}, whatever the password",
        "use scram-sha-256 in place of trust in pg_hba.conf",
    )


def _gates(database: Database, listed: tuple[Gate, ...]) -> Iterator[Finding]:
    with database.transaction() as connection:
        faults = list(gates.compare(connection, listed))
    for fault in faults:
        if fault.kind in {"raw_table_absent", "raw_column_absent"}:
            yield info(
                fault.kind, fault.message, "take it out of the list of gates, or see why the platform does not have it"
            )
        else:
            yield error(fault.kind, fault.message, _SET_UP_AGAIN)
    known = {gate.table for gate in listed if gate.schema == "public"}
    present = [row["relname"] for row in database.rows(statement("raw_tables", __package__))]
    unlisted = [name for name in present if name not in known]
    if unlisted:
        yield info(
            "raw_tables_not_listed",
            f"organisations cannot read these raw tables, which are on no list: {', '.join(unlisted)}",
            "nothing; or add them to the list of gates (KIKET_GATES_FILE) and run `kiket-worker migrate --roles`",
        )
