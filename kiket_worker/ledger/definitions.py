"""Definitions in the ledger: the versions that organisations have published, the newest of which is current."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from kiket_worker.errors import UnknownVersion, UsageError
from kiket_worker.ledger.database import Connection, Database, is_storable, statement


@dataclass(frozen=True)
class NewVersion:
    """What an organisation is to be switched to: every overlay's digest by its name, and how it came to that.

    `name` is the overlay that was published; None for a version that goes back to an earlier one, `rolled_back_to`.
    """

    overlays: Mapping[str, str]
    bundle_digest: str
    name: str | None = None
    author: str | None = None
    source_commit: str | None = None
    rolled_back_to: int | None = None


@dataclass(frozen=True, kw_only=True)
class Version(NewVersion):
    """One row of `kiket_analytics.definition_versions`."""

    version: int
    published_at: datetime

    @classmethod
    def from_row(cls, row: DictRow) -> "Version":
        """Read a row of the table."""
        return cls(**{name: value for name, value in row.items() if name != "organization_id"})


def current(database: Database, organization_id: int) -> Version | None:
    """The version that the organisation is at; None where nothing was ever published."""
    rows = database.rows(statement("current_definitions"), {"organization_id": organization_id})
    return Version.from_row(rows[0]) if rows else None


def history(database: Database, organization_id: int) -> list[Version]:
    """Every version of the organisation's definitions, newest first: the first is the current one."""
    rows = database.rows(
        b"select * from kiket_analytics.definition_versions where organization_id = %(organization_id)s"
        b" order by version desc",
        {"organization_id": organization_id},
    )
    return [Version.from_row(row) for row in rows]


def newest(database: Database, organization_id: int, limit: int) -> list[Version]:
    """The newest versions of the organisation's definitions: the first is the current one."""
    parameters = {"organization_id": organization_id, "version_limit": limit}
    return [Version.from_row(row) for row in database.rows(statement("published_versions"), parameters)]


def get(database: Database, organization_id: int, version: int) -> Version:
    """One version. Raises `UnknownVersion`."""
    rows = database.rows(
        b"select * from kiket_analytics.definition_versions"
        b" where organization_id = %(organization_id)s and version = %(version)s",
        {"organization_id": organization_id, "version": version},
    )
    if not rows:
        raise UnknownVersion(f"there is no version {version}; `kiket-worker definitions list` shows those there are")
    return Version.from_row(rows[0])


def switch(connection: Connection, organization_id: int, after: int, new: NewVersion) -> Version | None:
    """Make a version current in the caller's transaction; None where the organisation is no longer at `after`.

    `after` is 0 where nothing was published yet. Nobody else switches the organisation until the transaction ends.
    """
    parameters = asdict(new) | {
        "organization_id": organization_id,
        "version": after + 1,
        "overlays": Jsonb(dict(new.overlays)),
    }
    row = connection.execute(statement("add_definitions_version"), parameters).fetchone()
    return Version.from_row(row) if row else None


def check_texts(new: NewVersion) -> None:
    """Raise `UsageError` for a text that the ledger cannot hold."""
    for name, text in (("author", new.author), ("commit", new.source_commit)):
        if text and not is_storable(text):
            raise UsageError(f"the {name} {text!r} has a character that is not text: NUL, or a byte outside of UTF-8")
