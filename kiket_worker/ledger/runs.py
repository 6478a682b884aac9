"""Runs in the ledger: asked for, looked at, cancelled."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, NewType
from uuid import UUID

import psycopg

from kiket_worker.contract import Reason
from kiket_worker.errors import RunNotCancellable, UnknownRun, UsageError
from kiket_worker.ledger.database import Connection, Database, is_storable, statement

RunId = NewType("RunId", UUID)

KEY_LIMIT = 255  # of an idempotency key, in characters


class Status(StrEnum):
    """The steps of a run, in their order, and its four ends."""

    QUEUED = "queued"
    RUNNING = "running"
    BUILT = "built"
    ARCHIVED = "archived"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    @property
    def has_ended(self) -> bool:
        """Whether nothing will happen to the run any more."""
        return self in {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.SKIPPED}


@dataclass(frozen=True)
class Request:
    """What somebody asks for: a refresh of one organisation."""

    organization_id: int
    organization_slug: str
    reason: Reason = Reason.MANUAL
    requested_by: str | None = None
    idempotency_key: str | None = None
    forced: bool = False
    full_refresh: bool = False
    docs: bool = False
    selection: Sequence[str] | None = None
    traceparent: str | None = None


@dataclass(frozen=True)
class Accepted:
    """The answer to a request: the run that will serve it. `is_new` is false when it joined one or was repeated."""

    run_id: RunId
    is_new: bool


@dataclass(frozen=True)
class Run:
    """One row of `kiket_analytics.runs`."""

    run_id: RunId
    organization_id: int
    organization_slug: str
    reason: Reason
    requested_by: str | None
    forced: bool
    full_refresh: bool
    docs: bool
    selection: list[str] | None
    urgency: float | None
    status: Status
    attempt: int
    lease_epoch: int | None
    worker: str | None
    queued_at: datetime
    published_at: datetime | None
    started_at: datetime | None
    built_at: datetime | None
    archived_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    artifacts_location: str | None
    artifacts_index_sha256: str | None
    error_kind: str | None
    error_message: str | None
    billable: bool
    not_before: datetime | None
    crashes: int
    handed_back: bool
    traceparent: str | None

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Run":
        """Read a row of the table. Columns that a newer release has added are left out."""
        known = {field.name: row[field.name] for field in fields(cls)}
        return cls(**known | {"reason": Reason(row["reason"]), "status": Status(row["status"])})


@dataclass(frozen=True)
class RunModel:
    """How one model of a run went. `started_at` is None where nobody has told when it began."""

    model_id: str
    status: str
    duration_seconds: float | None
    rows_affected: int | None
    message: str | None = None
    started_at: datetime | None = None


@dataclass(frozen=True)
class RunAttempt:
    """One try at a run. `outcome` is None while it goes on; one that is handed back has the next one's number."""

    attempt: int
    worker: str
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    error_kind: str | None
    error_message: str | None


@dataclass(frozen=True)
class Position:
    """Where a run stands in a list, newest first."""

    queued_at: datetime
    run_id: UUID


def request(database: Database, wanted: Request) -> Accepted:
    """Put a request into the ledger: a new queued run, or the one that waits already.

    A repeated idempotency key gives the run that it named the first time, whatever became of it. Raises `UsageError`
    for a text that the ledger cannot hold.
    """
    _check(wanted)
    try:
        return _request_once(database, wanted)
    except psycopg.errors.UniqueViolation:
        # The same key was used at the same moment; whoever was first has committed by now, and its run is found.
        return _request_once(database, wanted)


def named_by(database: Database, organization_id: int, idempotency_key: str) -> RunId | None:
    """The run that a key of an organisation has named; None for a key that was not used yet."""
    if not is_storable(idempotency_key):
        return None
    key = {"organization_id": organization_id, "idempotency_key": idempotency_key}
    rows = database.rows(statement("find_request"), key)
    return rows[0]["run_id"] if rows else None


def request_with(connection: Connection, wanted: Request) -> Accepted:
    """The same in the caller's transaction, without an idempotency key: it is committed with what it is for."""
    _check(wanted)
    return _request_run(connection, wanted)


def _check(wanted: Request) -> None:
    if wanted.idempotency_key and len(wanted.idempotency_key) > KEY_LIMIT:
        raise UsageError(
            f"the idempotency key has {len(wanted.idempotency_key)} characters; the ledger has room for {KEY_LIMIT}"
        )
    texts = [("idempotency key", wanted.idempotency_key), ("requester", wanted.requested_by)]
    for name, text in [*texts, *(("selection", item) for item in wanted.selection or ())]:
        if text and not is_storable(text):
            raise UsageError(f"the {name} {text!r} has a character that is not text: NUL, or a byte outside of UTF-8")


def _request_once(database: Database, wanted: Request) -> Accepted:
    key = {"organization_id": wanted.organization_id, "idempotency_key": wanted.idempotency_key}
    with database.transaction() as connection:
        repeated = connection.execute(statement("find_request"), key).fetchone()
        if repeated:
            return Accepted(repeated["run_id"], is_new=False)
        accepted = _request_run(connection, wanted)
        if wanted.idempotency_key:
            connection.execute(statement("record_request"), key | {"run_id": accepted.run_id})
        return accepted


def _request_run(connection: Connection, wanted: Request) -> Accepted:
    parameters = asdict(wanted) | {"selection": list(wanted.selection) if wanted.selection else None}
    row = connection.execute(statement("request_run"), parameters).fetchone()
    assert row is not None  # The statement inserts or updates, and gives the row in both cases.
    return Accepted(row["run_id"], is_new=row["is_new"])


def get(database: Database, run_id: UUID) -> Run:
    """The run with this id. Raises `UnknownRun`."""
    rows = database.rows(b"select * from kiket_analytics.runs where run_id = %(run_id)s", {"run_id": run_id})
    if not rows:
        raise UnknownRun(f"no run has the id {run_id}; `kiket-worker runs list` shows the newest")
    return Run.from_row(rows[0])


def models(database: Database, run_id: UUID) -> list[RunModel]:
    """The models of a run, by id."""
    rows = database.rows(statement("list_models"), {"run_id": run_id})
    return [RunModel(**row) for row in rows]


def is_suspected(database: Database, run_id: UUID) -> bool:
    """Whether the run's attempts have ended without a word from their worker: it may be what kills them."""
    return bool(database.rows(statement("suspected_run"), {"run_id": run_id}))


def list_newest(
    database: Database, *, organization_id: int | None = None, status: Status | None = None, limit: int
) -> list[Run]:
    """At most `limit` runs, newest first."""
    parameters = {"organization_id": organization_id, "status": status, "run_limit": limit}
    return [Run.from_row(row) for row in database.rows(statement("list_runs"), parameters)]


def page(
    database: Database,
    *,
    organization_id: int | None = None,
    status: Status | None = None,
    since: datetime | None = None,
    after: Position | None = None,
    page_size: int,
) -> list[Run]:
    """The runs that follow `after`, newest first; those that were queued at `since` or later."""
    parameters = {
        "organization_id": organization_id,
        "status": status,
        "since": since,
        "after_at": after and after.queued_at,
        "after_id": after and after.run_id,
        "page_size": page_size,
    }
    return [Run.from_row(row) for row in database.rows(statement("runs_page"), parameters, prepare=False)]


def attempts(database: Database, run_id: UUID) -> list[RunAttempt]:
    """The attempts at a run, the first first."""
    return [RunAttempt(**row) for row in database.rows(statement("list_attempts"), {"run_id": run_id})]


@dataclass(frozen=True)
class Watched:
    """How far a run is."""

    run: Run
    models: list[RunModel]


def watched(database: Database, run_ids: Sequence[UUID]) -> dict[UUID, Watched]:
    """How far these runs are, with one question for all of them."""
    rows = database.rows(statement("watched_runs"), {"run_ids": list(run_ids)})
    return {row["run_id"]: Watched(Run.from_row(row), [_model(model) for model in row["models"]]) for row in rows}


def in_progress(database: Database, limit: int) -> list[Run]:
    """The runs that workers have in hand, the longest first."""
    return [Run.from_row(row) for row in database.rows(statement("runs_in_progress"), {"run_limit": limit})]


def failed_since(database: Database, moment: datetime, limit: int) -> list[Run]:
    """The runs that failed at the moment or later, whenever they were queued; the newest failure first."""
    rows = database.rows(statement("failed_since"), {"since": moment, "run_limit": limit})
    return [Run.from_row(row) for row in rows]


def _model(document: dict[str, Any]) -> RunModel:
    started_at = document["started_at"]
    return RunModel(**document | {"started_at": started_at and datetime.fromisoformat(started_at)})


def cancel(database: Database, run_id: UUID) -> Status:
    """End a waiting run, or ask the worker of an executing one to end it; give the status it then has.

    Raises `UnknownRun`, and `RunNotCancellable` for a run that has ended.
    """
    with database.transaction() as connection:
        run = lock(connection, run_id)
        if run is None:
            raise UnknownRun(f"no run has the id {run_id}; `kiket-worker runs list` shows the newest")
        if run.status.has_ended:
            raise RunNotCancellable(f"run {run_id} has ended already: it is {run.status}")
        if _nobody_has(connection, run_id):
            connection.execute(statement("cancel_waiting"), {"run_id": run_id})
            return Status.CANCELLED
        connection.execute("update kiket_analytics.runs set cancel_requested_at = now() where run_id = %s", [run_id])
        return run.status


def _nobody_has(connection: Connection, run_id: UUID) -> bool:
    """Whether a run waits, for its first attempt or for a retry: no worker holds a lease for it."""
    return connection.execute("select from kiket_analytics.leases where run_id = %s", [run_id]).fetchone() is None


def lock(connection: Connection, run_id: UUID) -> Run | None:
    """The run, with its row locked until the caller's transaction ends."""
    row = connection.execute("select * from kiket_analytics.runs where run_id = %s for update", [run_id]).fetchone()
    return Run.from_row(row) if row else None
