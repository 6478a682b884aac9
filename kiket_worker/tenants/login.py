"""Logging in as a tenant, and making sure that the session is that tenant's and nothing more."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import DictRow, dict_row

from kiket_worker.errors import TenantLoginFailed, TenantNotIsolated
from kiket_worker.ledger.database import Connection, statement
from kiket_worker.tenants.gates import GATES_SCHEMA

_CONNECT_TIMEOUT_SECONDS = 10
# What a right that is missing, a gate that is absent, or a time-out that a tenant has set itself makes of a query.
_NOT_ALLOWED = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedTable,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.QueryCanceled,
)


@dataclass(frozen=True)
class Login:
    """A database role and its password."""

    role: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class CheckedLogin(Login):
    """A login, and a session of it that was opened to see whose it is; whoever gets it closes it."""

    session: Connection = field(repr=False, compare=False)


@contextmanager
def session(address: Mapping[str, str], login: Login) -> Iterator[Connection]:
    """A session as the tenant's role, or as its reader, each statement committed at once.

    `address` are libpq's words for where the database is. Raises `TenantLoginFailed`.
    """
    with open_session(address, login) as connection:
        yield connection


def open_session(address: Mapping[str, str], login: Login) -> Connection:
    """The same, to be closed by the caller."""
    try:
        return psycopg.connect(
            make_conninfo(
                "",
                **address,
                user=login.role,
                password=login.password,
                application_name="kiket-worker",
                connect_timeout=_CONNECT_TIMEOUT_SECONDS,
            ),
            autocommit=True,
            row_factory=dict_row,
        )
    except psycopg.OperationalError as fault:
        raise TenantLoginFailed(f"role {login.role} cannot log in: {' '.join(str(fault).split())}") from fault


def check_identity(connection: Connection, role: str, organization_id: int | None) -> None:
    """Check, before any statement of the tenant's own, that a session is who it has to be and has no more rights.

    Raises `TenantNotIsolated`, which says what is wrong.
    """
    try:
        row = connection.execute(statement("identity_of_session", __package__), {"role": role}).fetchone()
    except _NOT_ALLOWED as fault:
        raise TenantNotIsolated(f"role {role} cannot ask whose session it is: {fault.diag.message_primary}") from fault
    assert row is not None
    if row["organization_id"] != organization_id:
        raise TenantNotIsolated(
            f"the gates take role {role} for organisation {row['organization_id']} and not for {organization_id}"
        )
    _check_rights(row, role)


def check_twin(connection: Connection, role: str) -> None:
    """The same for a read-only twin, which no gate lets in. Raises `TenantNotIsolated`."""
    row = connection.execute(statement("identity_of_twin", __package__), {"role": role}).fetchone()
    assert row is not None
    _check_rights(row, role)


def _check_rights(row: DictRow, role: str) -> None:
    if (row["session_name"], row["current_name"]) != (role, role):
        raise TenantNotIsolated(
            f"the session that should be {role}'s is {row['session_name']}'s, acting as {row['current_name']}"
        )
    if row["is_powerful"]:
        raise TenantNotIsolated(
            f"role {role} has an attribute that no organisation's role may have: see `\\du {role}` in psql, and take "
            "it away with `alter role … nosuperuser nocreatedb nocreaterole noreplication nobypassrls`"
        )
    if row["strange_roles"]:
        raise TenantNotIsolated(
            f"role {role} is a member of {', '.join(row['strange_roles'])}, which would show it more than its own "
            "rows: revoke that"
        )


def shows_rows(connection: Connection, gate: str) -> bool | None:
    """Whether a tenant's session sees any row through a gate; None where there is no such gate."""
    query = sql.SQL("select exists (select from {}) as has_rows").format(sql.Identifier(GATES_SCHEMA, gate))
    try:
        row = connection.execute(query).fetchone()
    except _NOT_ALLOWED:
        return None
    return bool(row and row["has_rows"])
