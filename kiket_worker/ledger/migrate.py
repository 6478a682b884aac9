"""Bring the ledger's tables up to this release, by the plain SQL files in `migrations/` (run by yoyo)."""

from importlib.resources import as_file, files
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import psycopg
import yoyo

from kiket_worker.errors import PostgresUnreachable
from kiket_worker.ledger.database import Database


def migrate(database_url: str) -> list[str]:
    """Apply what is missing and give the names of the migrations applied. Raises `PostgresUnreachable`.

    Safe to run from many processes at once: yoyo takes a lock of its own.
    """
    with Database(database_url) as database, database.transaction() as connection:
        connection.execute("create schema if not exists kiket_analytics")
    with as_file(files(__package__) / "migrations") as folder:
        migrations = yoyo.read_migrations(str(folder))
        try:
            with yoyo.get_backend(_yoyo_url(database_url)) as backend, backend.lock():
                pending = backend.to_apply(migrations)
                backend.apply_migrations(pending)
                return [migration.id for migration in pending]
        except psycopg.OperationalError as fault:
            raise PostgresUnreachable(f"Postgres ended the connection during the migration: {fault}") from fault


def _yoyo_url(database_url: str) -> str:
    """The URL with yoyo's driver name, and the schema where yoyo keeps its books: never in the platform's `public`."""
    parts = urlsplit(database_url)
    query = urlencode([*parse_qsl(parts.query), ("schema", "kiket_analytics")])
    return urlunsplit(parts._replace(scheme="postgresql+psycopg", query=query))
