"""Bring the ledger's tables up to this release, by the plain SQL files in `migrations/` (run by yoyo)."""

from importlib.resources import as_file, files
from urllib.parse import urlencode

import yoyo
from psycopg.conninfo import conninfo_to_dict

from kiket_worker.ledger.database import Database, statement, translated


def migrate(database_url: str) -> list[str]:
    """Apply what is missing and give the names of the migrations applied.

    Safe to run from many processes at once: the later ones wait, and find nothing missing. Raises what
    `Database.transaction` does; nothing is kept of the migration that was not completed.
    """
    with translated(), Database(database_url) as database, database.connect() as connection:
        connection.execute(statement("prepare_migration"))
        connection.commit()
        # Until the end of this transaction, and so of this process, however it ends.
        connection.execute("lock table kiket_analytics.migration_lock")
        return _apply(database_url)


def _apply(database_url: str) -> list[str]:
    with (
        as_file(files(__package__) / "migrations") as folder,
        yoyo.get_backend(_yoyo_url(database_url)) as backend,
    ):
        # yoyo's own lock is a row, which a killed process leaves behind for ever; nobody else migrates now.
        backend.break_lock()
        pending = backend.to_apply(yoyo.read_migrations(str(folder)))
        backend.apply_migrations(pending)
        return [migration.id for migration in pending]


def _yoyo_url(database_url: str) -> str:
    """The same connection for yoyo, and the schema where yoyo keeps its books: never in the platform's `public`.

    Every part is an option, which yoyo hands on to psycopg as it is: between the slashes, Python's reading of a URL
    differs from libpq's, by a bracket in a password or a list of hosts.
    """
    parts = {name: str(value) for name, value in conninfo_to_dict(database_url).items()}
    return f"postgresql+psycopg:///?{urlencode(parts | {'schema': 'kiket_analytics'})}"
