"""Whether the ledger's tables are at this release's level."""

from importlib.resources import files

from kiket_worker.errors import LedgerNotMigrated
from kiket_worker.ledger.database import Database


def check_level(database: Database) -> None:
    """Raise `LedgerNotMigrated` where a migration of this release was not applied, and `LedgerForbidden`.

    Migrations of later releases do no harm: a rolling deploy applies them before its workers.
    """
    rows = database.rows(b"select migration_id from kiket_analytics._yoyo_migration")
    applied = {row["migration_id"] for row in rows}
    shipped = {file.name.removesuffix(".sql") for file in (files(__package__) / "migrations").iterdir()}
    if missing := sorted(shipped - applied):
        raise LedgerNotMigrated(f"the ledger lacks {', '.join(missing)}; run `kiket-worker migrate`")
