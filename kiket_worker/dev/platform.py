"""The sample platform in Postgres: creates the platform's tables and fills them by COPY.

It stands in for a real Kiket database in tests, benchmarks and the demo; nothing here runs against a real one.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from psycopg import Connection
from psycopg.sql import SQL, Composable, Identifier

from kiket_worker.dev.comments import CommentRow, comment_rows
from kiket_worker.dev.issues import IssueRow, issue_rows
from kiket_worker.dev.sample import (
    OrganizationRow,
    OrganizationSpec,
    ProjectRow,
    ReleaseRow,
    UserRow,
    organization_rows,
    project_rows,
    release_rows,
    user_rows,
)


@dataclass(frozen=True)
class Table:
    """A table of the platform, its columns in COPY's order, and what generates one organisation's rows of it."""

    name: str
    columns: tuple[str, ...]
    rows: Callable[[OrganizationSpec, int, datetime], Iterator[tuple[object, ...]]]

    @property
    def qualified(self) -> Composable:
        """The table's name for a statement."""
        return Identifier("public", self.name)


# Referenced tables come before those that refer to them.
TABLES = (
    Table("organizations", OrganizationRow._fields, organization_rows),
    Table("users", UserRow._fields, user_rows),
    Table("projects", ProjectRow._fields, project_rows),
    Table("issues", IssueRow._fields, issue_rows),
    Table("comments", CommentRow._fields, comment_rows),
    Table("releases", ReleaseRow._fields, release_rows),
)


def create_tables(connection: Connection[Any]) -> None:
    """Creates the platform's tables, in the caller's transaction. The database has none of them yet."""
    connection.execute((Path(__file__).parent / "sql" / "platform.sql").read_bytes())


def load(connection: Connection[Any], specs: Iterable[OrganizationSpec], *, seed: int, now: datetime) -> dict[str, int]:
    """Generates the organisations' rows, copies them in the caller's transaction and analyses the tables.

    Returns how many rows each table received. The same specs, seed and `now` give the same rows; organisations that
    the database has already must not be among the specs, or Postgres refuses the whole load.
    """
    specs = tuple(specs)
    counts = {}
    with connection.cursor() as cursor:
        for table in TABLES:
            columns = SQL(", ").join(map(Identifier, table.columns))
            with cursor.copy(SQL("copy {} ({}) from stdin").format(table.qualified, columns)) as copy:
                for spec in specs:
                    for row in table.rows(spec, seed, now):
                        copy.write_row(row)
            counts[table.name] = cursor.rowcount
        cursor.execute(SQL("analyze {}").format(SQL(", ").join(table.qualified for table in TABLES)))
    return counts
