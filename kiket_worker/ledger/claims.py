"""Claims: a worker takes a run and its organisation's lease, writes under the lease's epoch, and ends the run.

Every write names the epoch under which the claim was made. When another attempt has taken the run over, the epoch is
higher, the write changes nothing, and `LeaseLost` is raised (fencing).
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from kiket_worker.errors import (
    KiketError,
    LeaseLost,
    OrganizationDisabled,
    OrganizationGone,
    OrganizationQuarantined,
    SchemaTaken,
)
from kiket_worker.ledger.database import Connection, Database, statement
from kiket_worker.ledger.runs import Run, RunId, RunModel, Status, lock


@dataclass(frozen=True)
class Claim:
    """The right to execute a run: its row, its schema, and the epoch that every write has to name."""

    run: Run
    schema_name: str
    epoch: int
    sessions_ended: int | None = None  # None where no earlier attempt had to be taken over.


class Outcome(StrEnum):
    """How an attempt ended. The sixth, crashed, is written by whoever takes the run over."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RETRIED = "retried"
    HANDED_BACK = "handed_back"


class AlreadyEnded(Exception):
    """The run was ended by this very attempt: the commit reached Postgres, and only its answer was lost."""

    def __init__(self, status: Status) -> None:
        super().__init__(status)
        self.status = status


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
    end_sessions: Callable[[Connection, RunId], int],
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
            sessions_ended = end_sessions(connection, run.run_id)
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
        return Claim(Run.from_row(begun), schema, row["epoch"], sessions_ended)


def renew(connection: Connection, claim: Claim, ttl_seconds: float) -> bool:
    """Prolong the lease; give whether somebody asked for the run's end. Raises `LeaseLost`."""
    row = connection.execute(
        statement("renew_lease"), {"schema_name": claim.schema_name, "epoch": claim.epoch, "ttl_seconds": ttl_seconds}
    ).fetchone()
    if row is None:
        raise _lost(claim)
    return bool(row["cancel_requested"])


def record_model(database: Database, claim: Claim, model: RunModel) -> None:
    """Write how far one model is. Raises `LeaseLost`."""
    parameters = {
        "run_id": claim.run.run_id,
        "lease_epoch": claim.epoch,
        "model_id": model.model_id,
        "status": model.status,
        "duration_seconds": model.duration_seconds,
        "rows_affected": model.rows_affected,
        "message": _storable(model.message),
    }
    if not database.rows(statement("record_model"), parameters):
        raise _lost(claim)


def begin_models(database: Database, claim: Claim) -> None:
    """Forget the models of an earlier attempt. Raises `LeaseLost`."""
    with database.transaction() as connection:
        _fenced(connection, claim, "update kiket_analytics.runs set worker = worker")
        connection.execute("delete from kiket_analytics.run_models where run_id = %s", [claim.run.run_id])


def mark_built(database: Database, claim: Claim) -> Run:
    """running → built. Raises `LeaseLost`."""
    with database.transaction() as connection:
        return _fenced(connection, claim, "update kiket_analytics.runs set status = 'built', built_at = now()")


def mark_archived(database: Database, claim: Claim, *, location: str, index_sha256: str) -> Run:
    """built → archived, with the place and the checksum of the index. Raises `LeaseLost`."""
    with database.transaction() as connection:
        return _fenced(
            connection,
            claim,
            "update kiket_analytics.runs set status = 'archived', archived_at = now(),"
            " artifacts_location = %s, artifacts_index_sha256 = %s",
            location,
            index_sha256,
        )


def succeed(database: Database, claim: Claim) -> tuple[Run, int]:
    """archived → succeeded, with its usage events, `last_run_at` and the lease's end in one transaction.

    Gives the run and the number of usage events. Raises `LeaseLost`.
    """
    with database.transaction() as connection:
        run = _fenced(connection, claim, "update kiket_analytics.runs set status = 'succeeded', finished_at = now()")
        usage = connection.execute(statement("record_usage"), {"run_id": run.run_id}).fetchone()
        assert usage is not None
        _end(connection, claim, Outcome.SUCCEEDED)
        return run, usage["usage_events"]


def fail(
    database: Database,
    claim: Claim,
    error: KiketError,
    *,
    location: str | None = None,
    index_sha256: str | None = None,
    quarantine: bool = False,
) -> Run:
    """End the run without success, keeping where its artifacts are if it has any.

    With `quarantine`, nothing of its organisation runs any more until somebody says so. Raises `LeaseLost`.
    """
    with database.transaction() as connection:
        run = _fenced(
            connection,
            claim,
            "update kiket_analytics.runs set status = 'failed', finished_at = now(), error_kind = %s,"
            " error_message = %s, artifacts_location = coalesce(%s, artifacts_location),"
            " artifacts_index_sha256 = coalesce(%s, artifacts_index_sha256)",
            error.kind,
            _storable(str(error)) or error.kind,
            location,
            index_sha256,
        )
        _end(connection, claim, Outcome.FAILED, error)
        if quarantine:
            connection.execute(
                "insert into kiket_analytics.analytics_settings as settings"
                " (organization_id, enabled, quarantined_at, quarantine_reason) values (%s, false, now(), %s)"
                " on conflict (organization_id) do update"
                " set quarantined_at = excluded.quarantined_at, quarantine_reason = excluded.quarantine_reason",
                [run.organization_id, str(error)],
            )
        return run


def retry_later(database: Database, claim: Claim, error: KiketError, *, delay_seconds: float) -> Run:
    """Give the lease back and let the run begin another attempt after a time. Raises `LeaseLost`."""
    with database.transaction() as connection:
        run = _fenced(
            connection,
            claim,
            "update kiket_analytics.runs set not_before = now() + make_interval(secs => %s), published_at = null",
            delay_seconds,
        )
        _give_back(connection, claim, Outcome.RETRIED, error)
        return run


def hand_back(database: Database, claim: Claim) -> Run:
    """Give the lease back unfinished, because this worker has to end; the attempt does not count.

    Raises `LeaseLost`.
    """
    with database.transaction() as connection:
        run = _fenced(
            connection,
            claim,
            "update kiket_analytics.runs set handed_back = true, not_before = now(), published_at = null",
        )
        _give_back(connection, claim, Outcome.HANDED_BACK)
        return run


def cancelled(database: Database, claim: Claim) -> Run:
    """End the run as asked. Raises `LeaseLost`."""
    with database.transaction() as connection:
        run = _fenced(connection, claim, "update kiket_analytics.runs set status = 'cancelled', finished_at = now()")
        _end(connection, claim, Outcome.CANCELLED)
        return run


def _check_organization(connection: Connection, run: Run) -> None:
    row = connection.execute(
        "select coalesce(settings.enabled, false) as enabled, settings.quarantine_reason"
        " from public.organizations as organization"
        " left join kiket_analytics.analytics_settings as settings on settings.organization_id = organization.id"
        " where organization.id = %s and organization.slug = %s",
        [run.organization_id, run.organization_slug],
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
    row = connection.execute(
        "select organization_id from kiket_analytics.leases where schema_name = %s", [schema]
    ).fetchone()
    if row is None or row["organization_id"] == organization_id:
        return None
    return SchemaTaken(
        f"schema {schema} belongs to organisation {row['organization_id']}: two slugs that give one schema cannot "
        "both be refreshed; rename one of them"
    )


def _skip(connection: Connection, run: Run, obstacle: KiketError) -> None:
    connection.execute(
        "update kiket_analytics.runs set status = 'skipped', finished_at = now(), error_kind = %s, error_message = %s"
        " where run_id = %s",
        [obstacle.kind, str(obstacle), run.run_id],
    )


def _end(connection: Connection, claim: Claim, outcome: Outcome, error: KiketError | None = None) -> None:
    """Give the lease back, count the attempt's start as the last run, and let a run that waited be published."""
    organization_id = claim.run.organization_id
    connection.execute(
        "update kiket_analytics.analytics_settings set last_run_at = %s where organization_id = %s",
        [claim.run.started_at, organization_id],
    )
    _give_back(connection, claim, outcome, error)
    connection.execute(
        "update kiket_analytics.runs set published_at = null where organization_id = %s and status = 'queued'",
        [organization_id],
    )


def _give_back(connection: Connection, claim: Claim, outcome: Outcome, error: KiketError | None = None) -> None:
    connection.execute(
        statement("close_attempt"),
        {
            "run_id": claim.run.run_id,
            "lease_epoch": claim.epoch,
            "outcome": outcome,
            "error_kind": error.kind if error else None,
            "error_message": _storable(str(error)) if error else None,
        },
    )
    # What dbt had begun when it was killed will not end any more.
    connection.execute(
        "update kiket_analytics.run_models set status = 'error', message = 'not finished'"
        " where run_id = %s and status = 'running'",
        [claim.run.run_id],
    )
    connection.execute(statement("release_lease"), {"schema_name": claim.schema_name, "epoch": claim.epoch})


def _storable(text: str | None) -> str | None:
    """The text without what Postgres' text cannot hold: NUL, and halves of surrogate pairs, which are not UTF-8."""
    return text and text.replace("\x00", "�").encode(errors="replace").decode()


def _fenced(connection: Connection, claim: Claim, update: str, *values: str | float | None) -> Run:
    row = connection.execute(
        f"{update} where run_id = %s and lease_epoch = %s and finished_at is null returning *".encode(),
        [*values, claim.run.run_id, claim.epoch],
    ).fetchone()
    if row is not None:
        return Run.from_row(row)
    run = lock(connection, claim.run.run_id)
    if run and run.lease_epoch == claim.epoch:
        raise AlreadyEnded(run.status)
    raise _lost(claim)


def _lost(claim: Claim) -> LeaseLost:
    return LeaseLost(
        f"run {claim.run.run_id} was taken over: epoch {claim.epoch} of {claim.schema_name} is no longer its own"
    )
