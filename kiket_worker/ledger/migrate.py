"""Bring the ledger's tables up to this release, by the plain SQL files in `migrations/` (run by yoyo)."""

from importlib.resources import as_file, files
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import psycopg
import yoyo

from kiket_worker.errors import PostgresUnreachable
from kiket_worker.ledger.database import Database, statement


def migrate(database_url: str) -> list[str]:
    """Apply what is missing and give the names of the migrations applied. Raises `PostgresUnreachable`.

    Safe to run from many processes at once: the later ones wait, and find nothing missing.
    """
    try:
        with Database(database_url) as database, database.connect() as connection:
            connection.execute(statement("prepare_migration"))
            connection.commit()
            # Until the end of this transaction, and so of this process, however it ends.
            connection.execute("lock table kiket_analytics.migration_lock")
            return _apply(database_url)
    except psycopg.OperationalError as fault:
        raise PostgresUnreachable(f"Postgres ended the connection during the migration: {fault}") from fault


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
    """The URL with yoyo's driver name, and the schema where yoyo keeps its books: never in the platform's `public`."""
    parts = urlsplit(database_url)
    query = urlencode([*parse_qsl(parts.query), ("schema", "kiket_analytics")])
    return urlunsplit(parts._replace(scheme="postgresql+psycopg", query=query))
