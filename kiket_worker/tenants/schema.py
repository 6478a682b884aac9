"""From a slug to the names of its schema and roles, or a refusal."""

import re
from typing import NewType

from kiket_worker.errors import InvalidSlug
from kiket_worker.ledger.database import Database, statement
from kiket_worker.ledger.leases import check_owner

SchemaName = NewType("SchemaName", str)

SCHEMA_PREFIX = "analytics_org_"
READER_PREFIX = "analytics_ro_"
SLUG_LIMIT = 49  # Postgres cuts identifiers at 63 bytes without an error, and the prefix takes 14 of them.
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?")


def schema_name(slug: str) -> SchemaName:
    """The schema that holds the organisation's relations. Raises `InvalidSlug` for a slug that cannot be one."""
    if len(slug) > SLUG_LIMIT:
        raise InvalidSlug(f"slug {slug!r} has {len(slug)} characters; a schema name has room for {SLUG_LIMIT}")
    if not _SLUG.fullmatch(slug):
        raise InvalidSlug(
            f"slug {slug!r} cannot be a schema name: it may have a-z and 0-9, with - and _ between them only"
        )
    return SchemaName(SCHEMA_PREFIX + slug.replace("-", "_"))


def check_own_schema(database: Database, slug: str, organization_id: int) -> None:
    """Raise `InvalidSlug` or `SchemaTaken` where a slug gives no schema that can be this organisation's own."""
    with database.transaction() as connection:
        check_owner(connection, schema_name(slug), organization_id)


def reader_name(slug: str) -> str:
    """The read-only twin of the organisation's role. Raises `InvalidSlug` as `schema_name` does."""
    return READER_PREFIX + schema_name(slug).removeprefix(SCHEMA_PREFIX)


def has_relations(database: Database, schema: str) -> bool:
    """Whether a schema is there and holds any table or view."""
    return bool(database.rows(statement("has_relations"), {"schema_name": schema}))
