"""Claiming: a worker takes a run and its organisation's lease, and with them the epoch that fences its writes.

What is written under a claim is in `attempts.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from kiket_worker.errors import (
    KiketError,
    OrganizationDisabled,
    OrganizationGone,
    OrganizationQuarantined,
    SchemaTaken,
    told_to_organization,
)
from kiket_worker.ledger import leases
from kiket_worker.ledger.database import Connection, Database, statement
from kiket_worker.ledger.runs import Run, RunId, Status, lock


@dataclass(frozen=True)
class Claim:
    """The right to execute a run: its row, its schema, and the epoch that every write has to name.

    `overlays` are the digests, by name, of the definitions that it builds, which are those of this version.
    """

    run: Run
    schema_name: str
    epoch: int
    sessions_ended: int | None = None  # None where no earlier attempt had to be taken over.
    definitions_version: int | None = None  # None where nothing was ever published.
    overlays: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NotClaimed:
    """Why a run was not claimed: it has ended, somebody else executes its organisation, or it was skipped just now."""

    status: Status | None
    organization_slug: str | None = None
    skipped_for: KiketError | None = None


def claim(
    database: Database,
    run_id: UUID,
    *,
    worker: str,
    ttl_seconds: float,
    schema_name: Callable[[str], str],
    end_sessions: Callable[[Connection, RunId, str], int],
) -> Claim | NotClaimed:
    """Take a run for a new attempt: a queued one, one that waited for a retry, or one whose lease has expired.

    `end_sessions` is called before an expired lease is taken over, and has to end the older attempt's database
    sessions. An archived run stays archived: only its usage is left to record. Any other begins at its start.
    """
    with database.transaction() as connection:
        run = lock(connection, run_id)
        if run is None or run.status.has_ended:
            return NotClaimed(run.status if run else None)
        is_queued = run.status is Status.QUEUED
        try:
            schema = schema_name(run.organization_slug)
            if is_queued:
                _check_organization(connection, run)
        except KiketError as obstacle:
            _skip(connection, run, obstacle)
            return NotClaimed(Status.SKIPPED, run.organization_slug, obstacle)
        if (is_queued and _another_is_executing(connection, run)) or _has_to_wait(connection, run):
            return NotClaimed(run.status)
        sessions_ended = None
        if not is_queued and _lease_has_expired(connection, run):
            sessions_ended = end_sessions(connection, run.run_id, schema)
        row = connection.execute(
            statement("acquire_lease"),
            {
                "schema_name": schema,
                "organization_id": run.organization_id,
                "run_id": run.run_id,
                "worker": worker,
                "ttl_seconds": ttl_seconds,
            },
        ).fetchone()
        if row is None:
            if is_queued and (other := _schema_of_another(connection, schema, run.organization_id)):
                _skip(connection, run, other)
                return NotClaimed(Status.SKIPPED, run.organization_slug, other)
            return NotClaimed(run.status)
        begun = connection.execute(
            statement("begin_attempt"),
            {
                "run_id": run.run_id,
                "status": Status.ARCHIVED if run.status is Status.ARCHIVED else Status.RUNNING,
                "lease_epoch": row["epoch"],
                "worker": worker,
            },
        ).fetchone()
        assert begun is not None
        connection.execute(statement("open_attempt"), {"run_id": run.run_id})
        return Claim(
            Run.from_row(begun),
            schema,
            row["epoch"],
            sessions_ended,
            begun["definitions_version"],
            begun["overlays"] or {},
        )


def _check_organization(connection: Connection, run: Run) -> None:
    row = connection.execute(
        statement("settings_of_run"),
        {"organization_id": run.organization_id, "organization_slug": run.organization_slug},
    ).fetchone()
    if row is None:
        raise OrganizationGone(
            f"organisation {run.organization_slug!r} was removed or renamed after the run was queued"
        )
    if run.forced:
        return
    if row["quarantine_reason"]:
        raise OrganizationQuarantined(run.organization_slug, row["quarantine_reason"])
    if not row["enabled"]:
        raise OrganizationDisabled(run.organization_slug)


def _another_is_executing(connection: Connection, run: Run) -> bool:
    row = connection.execute(
        "select from kiket_analytics.runs where organization_id = %s and status in ('running', 'built', 'archived')",
        [run.organization_id],
    ).fetchone()
    return row is not None


def _has_to_wait(connection: Connection, run: Run) -> bool:
    """Whether a retry is not due yet. Time is the database's."""
    row = connection.execute(
        "select from kiket_analytics.runs where run_id = %s and not_before > now()", [run.run_id]
    ).fetchone()
    return row is not None


def _lease_has_expired(connection: Connection, run: Run) -> bool:
    row = connection.execute(
        "select from kiket_analytics.leases where run_id = %s and expires_at < now() for update", [run.run_id]
    ).fetchone()
    return row is not None


def _schema_of_another(connection: Connection, schema: str, organization_id: int) -> SchemaTaken | None:
    try:
        leases.check_owner(connection, schema, organization_id)
    except SchemaTaken as obstacle:
        return obstacle
    return None


def _skip(connection: Connection, run: Run, obstacle: KiketError) -> None:
    told = told_to_organization(obstacle, run.organization_slug)
    connection.execute(
        statement("mark_skipped"), {"run_id": run.run_id, "error_kind": told.kind, "error_message": str(told)}
    )
