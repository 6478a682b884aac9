"""Leases of schemas that no organisation owns: the shared schema's builder excludes all others by one."""

from kiket_worker.ledger.database import Database, statement


def acquire_schema(database: Database, schema: str, *, worker: str, ttl_seconds: float) -> int | None:
    """Take the lease of a schema that no organisation owns; give its epoch, or None when somebody else holds it."""
    parameters = {
        "schema_name": schema,
        "organization_id": None,
        "run_id": None,
        "worker": worker,
        "ttl_seconds": ttl_seconds,
    }
    rows = database.rows(statement("acquire_lease"), parameters)
    return rows[0]["epoch"] if rows else None


def release_schema(database: Database, schema: str, epoch: int) -> None:
    """Give a schema's lease back."""
    with database.transaction() as connection:
        connection.execute(statement("release_lease"), {"schema_name": schema, "epoch": epoch})
