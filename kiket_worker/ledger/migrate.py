"""Bring the ledger's tables up to this release, by the plain SQL files in `migrations/` (run by yoyo).

Workers and tickers of the release before go on meanwhile: docs/decisions/0016-expand-and-contract.md.
"""

from contextlib import AbstractContextManager, nullcontext
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yoyo
from psycopg.conninfo import conninfo_to_dict
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import parse_uri
from yoyo.migrations import default_migration_table

from kiket_worker.ledger.database import Database, statement, translated
from kiket_worker.ledger.patience import LOCK_TIMEOUT_SECONDS, Patience

# Longer ones are no migration's: what they have locked, nobody else has meanwhile.
_STATEMENT_TIMEOUT_SECONDS = 60


def migrate(database_url: str, *, patience: Patience | None = None, folder: Path | None = None) -> list[str]:
    """Apply what is missing and give the names of the migrations applied.

    Safe to run from many processes at once: the later ones wait, and find nothing missing. Where a lock is not to be
    had, the migration that asks for it gives way and is tried again. Raises what `Database.transaction` does; nothing
    is kept of the migration that was not completed. `folder` has other migrations than the release's.
    """
    patience = patience or Patience()
    with translated(), Database(database_url) as database, database.connect() as connection:
        connection.execute(statement("prepare_migration"))
        connection.commit()
        # Until the end of this transaction, and so of this process, however it ends.
        connection.execute("lock table kiket_analytics.migration_lock")
        return _apply(database_url, patience, folder)


def _apply(database_url: str, patience: Patience, other: Path | None) -> list[str]:
    shipped: AbstractContextManager[Path] = (
        as_file(files(__package__).joinpath("migrations")) if other is None else nullcontext(other)
    )
    applied: list[str] = []
    with shipped as folder, _Backend(parse_uri(_yoyo_url(database_url)), default_migration_table) as backend:
        backend.init_database()
        # yoyo's own lock is a row, which a killed process leaves behind for ever; nobody else migrates now.
        backend.break_lock()
        for migration in backend.to_apply(yoyo.read_migrations(str(folder))):
            patience.wait_for_locks(lambda one=migration: backend.apply_one(one))  # type: ignore[misc]  # bound now
            applied.append(migration.id)
    return applied


class _Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]  # yoyo has no types
    """yoyo's, with limits on each of its sessions; not as options of their start, which poolers refuse."""

    def init_connection(self, connection: Any) -> None:
        super().init_connection(connection)
        for name, seconds in (
            ("lock_timeout", LOCK_TIMEOUT_SECONDS),
            ("statement_timeout", _STATEMENT_TIMEOUT_SECONDS),
        ):
            connection.execute("select set_config(%s, %s, false)", [name, f"{seconds}s"])


def _yoyo_url(database_url: str) -> str:
    """The same connection for yoyo, and the schema where yoyo keeps its books: never in the platform's `public`.

    Every part is an option, which yoyo hands on to psycopg as it is: between the slashes, Python's reading of a URL
    differs from libpq's, by a bracket in a password or a list of hosts.
    """
    parts = {name: str(value) for name, value in conninfo_to_dict(database_url).items()}
    return f"postgresql+psycopg:///?{urlencode(parts | {'schema': 'kiket_analytics'})}"
