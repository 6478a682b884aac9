"""Leases of schemas: whose a schema is, and that of the shared one, by which its builder excludes all others."""

from kiket_worker.errors import SchemaTaken
from kiket_worker.ledger.database import Connection, Database, statement


def check_owner(connection: Connection, schema: str, organization_id: int) -> None:
    """Raise `SchemaTaken` if a schema is another organisation's: that of the first that was refreshed into it."""
    row = connection.execute(
        "select organization_id from kiket_analytics.leases where schema_name = %s", [schema]
    ).fetchone()
    if row is not None and row["organization_id"] != organization_id:
        owner = (
            "is the shared one"
            if row["organization_id"] is None
            else f"belongs to organisation {row['organization_id']}"
        )
        raise SchemaTaken(
            f"schema {schema} {owner}: two slugs that give one schema cannot both be refreshed; rename one of them"
        )


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


def holds(connection: Connection, schema: str, epoch: int) -> bool:
    """Whether a lease is still that of an epoch; it stays so until the caller's transaction ends."""
    row = connection.execute(
        "select from kiket_analytics.leases where schema_name = %s and epoch = %s and worker is not null for update",
        [schema, epoch],
    ).fetchone()
    return row is not None
