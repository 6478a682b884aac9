"""The way to the ledger's database: a pool, transactions, and statements kept in `sql/`."""

import select
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib.resources import files
from math import inf
from typing import Any, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from kiket_worker.errors import InvalidSetting, LedgerForbidden, LedgerNotMigrated, PostgresUnreachable

Connection = psycopg.Connection[DictRow]

_CONNECT_TIMEOUT_SECONDS = 10
# Without it, whoever waits for an answer of a host that is gone learns of it after a quarter of an hour, or never.
_SILENCE = {"tcp_user_timeout": 30_000, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4}


# Beside a broken connection: a deadlock, a time-out, a full disk, a standby that is to become the primary. All may be
# gone at the next try.
_PASSING = (
    psycopg.OperationalError,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.IdleInTransactionSessionTimeout,
)


@cache
def statement(name: str, package: str = __package__) -> bytes:
    """The text of `sql/<name>.sql` in a package, the ledger's unless told."""
    return files(package).joinpath("sql", f"{name}.sql").read_bytes()


def reading(table: str, query: bytes) -> bytes:
    """A statement that reads what `sql/<table>.sql` of the ledger gives as a table of that name, put before it."""
    return b"with " + table.encode() + b" as (\n" + statement(table) + b"\n)\n" + query


def is_storable(text: str) -> bool:
    """Whether Postgres' text can hold it: no NUL, and no half of a surrogate pair, as which Python reads odd bytes."""
    return storable(text) == text


def storable(text: str) -> str:
    """The text without what Postgres' text cannot hold."""
    return text.replace("\x00", "\ufffd").encode(errors="replace").decode()


class Database:
    """The ledger's connections. Used as a context manager, which closes them."""

    def __init__(self, url: str, *, max_connections: int = 4, idle_in_transaction_seconds: float = 30) -> None:
        """Connect once, so that a wrong address is said at once and by name. Raises `PostgresUnreachable`.

        A transaction in which nothing is asked for that long is ended by Postgres: a process that was stopped in the
        middle of one, or cut off, would otherwise keep its rows locked, and nobody could take its runs over.
        """
        _check(url)
        self._url = url
        self.connect().close()
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            url,
            kwargs={"row_factory": dict_row, "application_name": "kiket-worker"} | _SILENCE,
            configure=partial(_limit_idleness, seconds=idle_in_transaction_seconds),
            min_size=0,
            max_size=max_connections,
            timeout=_CONNECT_TIMEOUT_SECONDS,
            # For as long as the process: where the password has changed meanwhile, there would be no other one to end
            # with what goes on.
            max_lifetime=inf,
            # The pool waits twice as long after each try in vain; begun anew, it finds a server that is back at once.
            reconnect_timeout=_CONNECT_TIMEOUT_SECONDS,
            check=_check_what_was_heard,
            open=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def connect(self, *, timeout_seconds: float = _CONNECT_TIMEOUT_SECONDS) -> Connection:
        """A connection of one's own, outside the pool, that notices within the time-out that nobody answers.

        Raises `PostgresUnreachable`.
        """
        try:
            return psycopg.connect(
                self._url,
                row_factory=dict_row,
                application_name="kiket-worker",
                connect_timeout=max(2, round(timeout_seconds)),  # libpq's own least
                tcp_user_timeout=round(1000 * timeout_seconds),
            )
        except psycopg.OperationalError as fault:
            raise PostgresUnreachable(f"Postgres at DATABASE_URL cannot be reached: {fault}") from fault

    @contextmanager
    def transaction(self, *, timeout_seconds: float = _CONNECT_TIMEOUT_SECONDS) -> Iterator[Connection]:
        """One transaction on a pooled connection, had in that time: committed at the end, rolled back by an exception.

        Raises `PostgresUnreachable` when the connection cannot be had, breaks or may only read, `LedgerNotMigrated`
        when the ledger's tables are not there, and `LedgerForbidden` when the login may not use them.
        """
        with translated(), self._pool.connection(timeout_seconds) as connection:
            yield connection

    def rows(
        self, query: bytes, parameters: dict[str, Any] | None = None, *, prepare: bool | None = None
    ) -> list[DictRow]:
        """Run one statement, which is a transaction of its own, and give its rows. Raises as `transaction` does.

        Not prepared (`prepare=False`), it is planned for the values that are given, each time: where a parameter may be
        null for any, a plan for all values would read the whole table. Left out, psycopg prepares what comes often.
        """
        with self.transaction() as connection:
            connection.autocommit = True  # To begin and commit would be two more ways there and back.
            try:
                return connection.execute(query, parameters, prepare=prepare).fetchall()
            finally:
                if connection.info.transaction_status is TransactionStatus.IDLE:  # Else the pool throws it away.
                    connection.autocommit = False


@contextmanager
def translated() -> Iterator[None]:
    """Raise what Postgres says in the block by its name in the product, as `Database.transaction` describes."""
    try:
        yield
    except PoolTimeout as fault:
        raise PostgresUnreachable(f"Postgres gave no connection: {fault}") from fault
    except (
        psycopg.errors.UndefinedTable,
        psycopg.errors.UndefinedColumn,
        psycopg.errors.InvalidSchemaName,
    ) as fault:
        raise LedgerNotMigrated(
            f"a table is not there ({fault}): run `kiket-worker migrate` if it is the ledger's, and see that "
            "DATABASE_URL names the platform's database if it is the platform's"
        ) from fault
    except psycopg.errors.InsufficientPrivilege as fault:
        raise LedgerForbidden(
            f"the login of DATABASE_URL lacks a right: {fault}; docs/operations.md lists those it needs"
        ) from fault
    except _PASSING as fault:
        raise PostgresUnreachable(f"Postgres could not go on: {fault}") from fault


def _limit_idleness(connection: Connection, *, seconds: float) -> None:
    # Not an option of the connection's start: poolers refuse those that they do not know.
    connection.execute(
        "select set_config('idle_in_transaction_session_timeout', %s, false)", [str(max(1, round(1000 * seconds)))]
    )
    connection.commit()


def _check_what_was_heard(connection: Connection) -> None:
    """Ask a server whether it is there, if it said something to the idle session, or hung up.

    To ask for each transaction would cost a refresh a dozen ways there and back; `_SILENCE` ends what only went silent.
    """
    heard = select.poll()
    heard.register(connection.fileno(), select.POLLIN)
    if heard.poll(0):
        ConnectionPool.check_connection(connection)


def _check(url: str) -> None:
    """Raise `InvalidSetting` for a URL that libpq cannot read, or whose port it would ask the resolver for."""
    try:
        ports = str(conninfo_to_dict(url).get("port") or "5432")
        is_valid = all(port.isdecimal() and 0 < int(port) < 65536 for port in ports.split(","))
    except (psycopg.ProgrammingError, UnicodeError):
        is_valid = False
    if not is_valid:
        # libpq's own words, and what it takes for the port, may be a part of the password.
        raise InvalidSetting(
            "DATABASE_URL is not a connection URL: its port, an option or a character cannot be read; "
            "characters such as / and : in a password have to be percent-encoded"
        )
