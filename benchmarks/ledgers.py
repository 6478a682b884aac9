"""Ledgers with a history: as many organisations and runs as are asked for, in a database of their own."""

from importlib.resources import files
from pathlib import Path

import psycopg
from psycopg import ClientCursor

from kiket_worker.dev import platform, postgres
from kiket_worker.ledger.migrate import migrate

_FILL = Path(__file__).parent / "sql" / "fill_ledger.sql"
# Who has a tenth of all runs.
LARGEST = "org-000001"
# The migration that made the sums added up what was there; everything behind this line of it does.
_ADDS_UP = "-- What is there:"


def filled(admin_url: str, name: str, *, organizations: int, runs: int, models: int = 2) -> str:
    """Make a database with a ledger that has this history; give its URL."""
    url = postgres.create_database(admin_url, name)
    with psycopg.connect(url) as connection:
        platform.create_tables(connection)
    migrate(url)
    fill(url, organizations=organizations, runs=runs, models=models)
    return url


def fill(url: str, *, organizations: int, runs: int, models: int = 2) -> None:
    """Fill an empty ledger, as the superuser of the URL."""
    # Several statements with parameters: put in by the client.
    with psycopg.connect(url, cursor_factory=ClientCursor) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(_FILL.read_bytes(), {"organizations": organizations, "runs": runs, "models": models})
        migration = files("kiket_worker.ledger").joinpath("migrations", "0011-console.sql").read_text()
        connection.execute(migration[migration.index(_ADDS_UP) :].encode())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum (analyze, freeze)")
