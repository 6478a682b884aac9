"""The way of a refresh: claim → build → archive → record usage, each step from one status of the run to the next.

The lease is held for the whole of it. Whatever a step raises ends the run as failed, with the error's kind and words;
a lost lease ends only this attempt, silently, because the run is another worker's by then.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from kiket_worker import events
from kiket_worker.dbt.engine import Cancellation
from kiket_worker.errors import KiketError, LeaseLost, PostgresUnreachable, RunCancelled, WorkerStopped
from kiket_worker.ledger import claims
from kiket_worker.ledger.claims import Claim, NotClaimed
from kiket_worker.ledger.runs import Status
from kiket_worker.refresh import lease
from kiket_worker.refresh.attempt import Attempt
from kiket_worker.refresh.services import Services
from kiket_worker.refresh.steps import archive_artifacts, archive_outcome, build, first_line, record_usage
from kiket_worker.tenants.schema import schema_name
from kiket_worker.tenants.sessions import end_sessions

STEPS: dict[Status, Callable[[Attempt], Status]] = {
    Status.RUNNING: build,
    Status.BUILT: archive_artifacts,
    Status.ARCHIVED: record_usage,
}


def refresh(run_id: UUID, services: Services, cancellation: Cancellation) -> Status | None:
    """Execute a run if it can be claimed, and give the status that it has then; None if the ledger has no such run.

    Raises `LeaseLost` and `WorkerStopped` where the run goes on elsewhere, and `PostgresUnreachable`.
    """
    claimed = claims.claim(
        services.database,
        run_id,
        worker=services.worker,
        ttl_seconds=services.lease_ttl_seconds,
        schema_name=schema_name,
        end_sessions=end_sessions,
    )
    if isinstance(claimed, NotClaimed):
        if obstacle := claimed.skipped_for:
            events.RUN_SKIPPED.log(
                organization=claimed.organization_slug,
                run_id=str(run_id),
                error_kind=obstacle.kind,
                error=str(obstacle),
            )
        return claimed.status
    with (
        lease.kept(services.database, claimed, cancellation, ttl_seconds=services.lease_ttl_seconds),
        tempfile.TemporaryDirectory(prefix="kiket-run-") as workdir,
    ):
        return _take_steps(Attempt(services, claimed, Path(workdir), cancellation))


def _take_steps(attempt: Attempt) -> Status:
    _log_claim(attempt, attempt.claim)
    status = attempt.claim.run.status
    try:
        while not status.has_ended:
            status = _take_step(attempt, status)
    except LeaseLost as fault:
        attempt.log(events.LEASE_LOST, error=str(fault))
        raise
    except (PostgresUnreachable, WorkerStopped):
        raise
    except RunCancelled:
        claims.cancelled(attempt.services.database, attempt.claim)
        attempt.log(events.RUN_CANCELLED, duration_seconds=attempt.elapsed_seconds())
        return Status.CANCELLED
    except KiketError as fault:
        return _fail(attempt, fault)
    except Exception as fault:  # A full disk, a bug: raised on, the message would come back and bring it on for ever.
        return _fail(attempt, _named(fault))
    else:
        return status


def _take_step(attempt: Attempt, status: Status) -> Status:
    status = STEPS[status](attempt)
    if attempt.cancellation.reason and not status.has_ended:
        raise attempt.cancellation.reason
    return status


def _fail(attempt: Attempt, fault: KiketError) -> Status:
    """End the run as failed. What dbt left is archived if it can be: it is the evidence."""
    if attempt.outcome and attempt.archived is None:
        try:
            attempt.archived = archive_outcome(attempt)
        except Exception as second:  # Whatever it is, the run has to end.
            fault = fault if attempt.outcome.failure else _named(second)
    archived = attempt.archived
    claims.fail(
        attempt.services.database,
        attempt.claim,
        fault,
        location=archived.location if archived else None,
        index_sha256=archived.index_sha256 if archived else None,
    )
    attempt.log(
        events.RUN_FAILED,
        duration_seconds=attempt.elapsed_seconds(),
        error_kind=fault.kind,
        error=first_line(str(fault)),
        artifacts=archived.location if archived else None,
    )
    return Status.FAILED


def _named(fault: Exception) -> KiketError:
    return fault if isinstance(fault, KiketError) else KiketError(f"{type(fault).__name__}: {fault}")


def _log_claim(attempt: Attempt, claim: Claim) -> None:
    if claim.sessions_ended is not None:
        attempt.log(events.RUN_TAKEN_OVER, sessions_ended=claim.sessions_ended)
    attempt.log(events.RUN_CLAIMED)
