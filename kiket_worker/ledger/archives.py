"""What the ledger knows of runs' artifacts: where they are, what their index has to be, which were removed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kiket_worker.ledger.database import Database, statement
from kiket_worker.ledger.runs import RunId, Status

_PAGE_SIZE = 1000


@dataclass(frozen=True)
class Archived:
    """A run with artifacts. `pruned_at`: they were removed since, because of their age."""

    run_id: RunId
    organization_slug: str
    status: Status
    archived_at: datetime
    location: str
    index_sha256: str
    pruned_at: datetime | None

    @property
    def prefix(self) -> str:
        """Where the set is within its store: organisation, run and attempt."""
        return "/".join(self.location.split("/")[-3:])

    @property
    def attempt(self) -> int:
        """Whose files they are; the run may have had a later attempt, which only recorded its usage."""
        return int(self.location.rpartition("/")[2])


@dataclass(frozen=True)
class Known:
    """What became of the run, or of the refresh of shared models, that a set is named by. `owner`: slug or schema."""

    set_id: UUID
    owner: str
    location: str | None
    has_succeeded: bool
    has_ended: bool
    at: datetime


def newest(
    database: Database,
    *,
    run_id: UUID | None = None,
    organization_id: int | None = None,
    start_at: datetime | None = None,
    end_at: datetime | None = None,
) -> Iterator[Archived]:
    """Runs with artifacts, newest first, read page by page; the times are those at which runs were queued."""
    parameters = {"run_id": run_id, "organization_id": organization_id, "start_at": start_at, "end_at": end_at}
    before: dict[str, object] = {"before_at": None, "before_id": None}
    while True:
        page = database.rows(statement("list_archived"), parameters | before | {"page_size": _PAGE_SIZE})
        for row in page:
            before = {"before_at": row.pop("queued_at"), "before_id": row["run_id"]}
            yield Archived(**row | {"status": Status(row["status"])})
        if len(page) < _PAGE_SIZE:
            return


def find(database: Database, run_id: UUID) -> Archived | None:
    """The run's artifacts; None where it has none."""
    return next(newest(database, run_id=run_id), None)


def known(database: Database, ids: Sequence[UUID]) -> dict[UUID, Known]:
    """What the ledger knows of sets by their ids."""
    rows = database.rows(statement("known_sets"), {"ids": list(ids)})
    return {row["set_id"]: Known(**row) for row in rows}


def record_pruned(database: Database, ids: Sequence[UUID], locations: Sequence[str]) -> None:
    """Write down that the sets of runs are about to be removed."""
    with database.transaction() as connection:
        connection.execute(statement("record_pruned"), {"ids": list(ids), "locations": list(locations)})
