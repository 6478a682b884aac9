"""Whether the ledger's tables are at this release's level."""

from importlib.resources import files

from kiket_worker.errors import LedgerNotMigrated
from kiket_worker.ledger.database import Database


def check_level(database: Database) -> None:
    """Raise `LedgerNotMigrated` where a migration of this release was not applied, and `LedgerForbidden`.

    Migrations of later releases do no harm: a rolling deploy applies them before its workers.
    """
    if missing := sorted(_shipped() - _applied(database)):
        raise LedgerNotMigrated(f"the ledger lacks {', '.join(missing)}; run `kiket-worker migrate`")


def later_migrations(database: Database) -> list[str]:
    """Migrations of later releases that were applied. Raises as `check_level` does."""
    return sorted(_applied(database) - _shipped())


def _applied(database: Database) -> set[str]:
    rows = database.rows(b"select migration_id from kiket_analytics._yoyo_migration")
    return {row["migration_id"] for row in rows}


def _shipped() -> set[str]:
    return {file.name.removesuffix(".sql") for file in (files(__package__) / "migrations").iterdir()}
