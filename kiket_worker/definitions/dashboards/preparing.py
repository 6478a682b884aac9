"""What Postgres itself says: of the relations that were built, and of queries on them."""

from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from kiket_worker.definitions.dashboards.query import Query
from kiket_worker.ledger.database import statement

_PREPARED = sql.Identifier("kiket_check")


def relations_of(session: psycopg.Connection[Any], schema: str) -> dict[str, dict[str, str]]:
    """The relations of a schema, each with its columns' types as Postgres writes them."""
    found: dict[str, dict[str, str]] = {}
    with session.cursor(row_factory=dict_row) as cursor:
        for row in cursor.execute(statement("relations_of", __package__), {"schema": schema}):
            columns = found.setdefault(row["relation"], {})
            if row["column_name"] is not None:
                columns[row["column_name"]] = row["column_type"]
    return found


def refusal(session: psycopg.Connection[Any], query: Query) -> str | None:
    """What Postgres has against a query, None for nothing. It is only prepared: nothing of it is run.

    The session is the tenant's own. A connection that breaks, and a lock that is waited for in vain, are raised.
    """
    try:
        # Also within a transaction of the caller's, which goes on after a refusal. What is prepared outlives a
        # transaction, so it is taken away by itself.
        with session.transaction():
            session.execute(sql.SQL("prepare {} as {}").format(_PREPARED, query.statement), prepare=False)
            session.execute(sql.SQL("deallocate {}").format(_PREPARED), prepare=False)
    except (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError) as fault:
        return fault.diag.message_primary or str(fault)
    return None
