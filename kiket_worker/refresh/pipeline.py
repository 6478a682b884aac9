"""The way of a refresh: claim → build → archive → record usage, each step from one status of the run to the next.

The lease is held for the whole of it. What a step raises ends the attempt: a fault that may pass is tried again later,
a worker that has to end hands the run back, anything else ends the run as failed, with the error's kind and words. A
lost lease ends only this attempt, silently, because the run is another worker's by then.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from kiket_worker import events
from kiket_worker.dbt.engine import Cancellation
from kiket_worker.dbt.workdir import workdir
from kiket_worker.errors import (
    AttemptsExhausted,
    KiketError,
    LeaseLost,
    PostgresUnreachable,
    RunCancelled,
    WorkerStopped,
)
from kiket_worker.ledger import attempts, claims, runs
from kiket_worker.ledger.attempts import AlreadyEnded
from kiket_worker.ledger.claims import NotClaimed
from kiket_worker.ledger.runs import Run, Status
from kiket_worker.refresh import lease
from kiket_worker.refresh.attempt import Attempt
from kiket_worker.refresh.services import Services
from kiket_worker.refresh.steps import archive_artifacts, archive_outcome, build, first_line, record_usage
from kiket_worker.tenants.schema import schema_name

_PATIENCE_SECONDS = 0.5


@dataclass(frozen=True)
class Step:
    """What is done for a run of one status, and the name that it has in traces and metrics."""

    name: str
    take: Callable[[Attempt], Status]


STEPS: dict[Status, Step] = {
    Status.RUNNING: Step("build", build),
    Status.BUILT: Step("archive", archive_artifacts),
    Status.ARCHIVED: Step("record", record_usage),
}


def refresh(run_id: UUID, services: Services, cancellation: Cancellation) -> Status | None:
    """Execute a run if it can be claimed, and give the status that it has then; None if the ledger has no such run.

    Raises `LeaseLost` where the run goes on elsewhere, and `PostgresUnreachable`.
    """
    # Before the claim: who waits for a turn holds no lease, and is not counted as crashed by the one that has it.
    with services.turns.taken(alone=runs.is_suspected(services.database, run_id)):
        return _refresh(run_id, services, cancellation)


def _refresh(run_id: UUID, services: Services, cancellation: Cancellation) -> Status | None:
    claimed_at, began = time.monotonic(), time.time_ns()
    claimed = claims.claim(
        services.database,
        run_id,
        worker=services.worker,
        ttl_seconds=services.lease_ttl_seconds,
        schema_name=schema_name,
        end_sessions=services.isolation.end_sessions,
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
    ttl_seconds = services.lease_ttl_seconds
    with (
        lease.kept(services.database, claimed, cancellation, claimed_at=claimed_at, ttl_seconds=ttl_seconds),
        workdir() as folder,
        services.telemetry.recording(
            folder,
            organization=claimed.run.organization_slug,
            run_id=run_id,
            attempt=claimed.run.attempt,
            # One that has to be fetched is known later, and what keeps it from that ends the run in order.
            bundle_digest=None if claimed.overlays else services.bundle.digest,
            traceparent=claimed.run.traceparent,
            began=began,
        ) as recording,
    ):
        recording.past("claim", began)
        return _work(
            Attempt(services, claimed, folder, cancellation, recording), round(time.monotonic() - claimed_at, 3)
        )


def _work(attempt: Attempt, claim_seconds: float) -> Status:
    run = attempt.claim.run
    if attempt.claim.sessions_ended is not None:
        attempt.log(events.RUN_TAKEN_OVER, sessions_ended=attempt.claim.sessions_ended)
    attempt.log(events.RUN_CLAIMED, step_seconds=claim_seconds)
    try:
        if run.cancel_requested_at:  # Asked for while the run waited, or while it was executed by a worker that died.
            return _cancel(attempt)
        if run.crashes >= attempt.services.retries.crashes:
            return _quarantine(attempt)
        return _take_steps(attempt)
    except LeaseLost as fault:
        attempt.log(events.LEASE_LOST, error=str(fault))
        raise


def _take_steps(attempt: Attempt) -> Status:
    status = attempt.claim.run.status
    try:
        while not status.has_ended:
            status = _take_step(attempt, status)
    except LeaseLost:
        raise
    except WorkerStopped:
        return _hand_back(attempt)
    except RunCancelled:
        return _cancel(attempt)
    except KiketError as fault:
        return _retry_or_fail(attempt, fault)
    except Exception as fault:  # A full disk, a bug: raised on, the message would come back and bring it on for ever.
        return _retry_or_fail(attempt, _named(fault))
    else:
        return status


def _take_step(attempt: Attempt, status: Status) -> Status:
    with attempt.step(STEPS[status].name):
        status = STEPS[status].take(attempt)
    if attempt.cancellation.reason and not status.has_ended:
        raise attempt.cancellation.reason
    return status


def _retry_or_fail(attempt: Attempt, fault: KiketError) -> Status:
    services, run = attempt.services, attempt.claim.run
    if not services.retries.allows_another(run.attempt, fault):
        return _fail(attempt, fault)
    delay_seconds = services.retries.delay_seconds(run.attempt, services.random)
    ended = _patiently(
        attempt, lambda: attempts.retry_later(services.database, attempt.claim, fault, delay_seconds=delay_seconds)
    )
    if _succeeded_after_all(attempt, ended):
        return ended
    attempt.log(
        events.RUN_RETRIED,
        duration_seconds=attempt.elapsed_seconds(),
        error_kind=fault.kind,
        error=first_line(str(fault)),
        delay_seconds=round(delay_seconds, 3),
    )
    return ended


def _hand_back(attempt: Attempt) -> Status:
    ended = _patiently(attempt, lambda: attempts.hand_back(attempt.services.database, attempt.claim))
    attempt.log(events.RUN_HANDED_BACK, duration_seconds=attempt.elapsed_seconds())
    return ended


def _cancel(attempt: Attempt) -> Status:
    ended = _patiently(attempt, lambda: attempts.cancelled(attempt.services.database, attempt.claim))
    attempt.log(events.RUN_CANCELLED, duration_seconds=attempt.elapsed_seconds())
    return ended


def _fail(attempt: Attempt, fault: KiketError) -> Status:
    """End the run as failed. What it left is archived if it can be: it is the evidence."""
    if attempt.archived is None:
        try:
            attempt.archived = archive_outcome(attempt, fault)
        except Exception as second:  # Whatever it is, the run has to end.
            fault = _named(second) if attempt.outcome and not attempt.outcome.failure else fault
    archived = attempt.archived
    ended = _patiently(
        attempt,
        lambda: attempts.fail(
            attempt.services.database,
            attempt.claim,
            fault,
            location=archived.location if archived else None,
            index_sha256=archived.index_sha256 if archived else None,
        ),
    )
    if _succeeded_after_all(attempt, ended):
        return ended
    attempt.log(
        events.RUN_FAILED,
        duration_seconds=attempt.elapsed_seconds(),
        error_kind=fault.kind,
        error=first_line(str(fault)),
        artifacts=archived.location if archived else None,
    )
    return ended


def _quarantine(attempt: Attempt) -> Status:
    """End a run whose attempts crash their workers, before it does so again, and its organisation's refreshes."""
    run = attempt.claim.run
    fault = AttemptsExhausted(f"{run.crashes} attempts at run {run.run_id} ended without a word from their workers")
    ended = _patiently(attempt, lambda: attempts.fail(attempt.services.database, attempt.claim, fault, quarantine=True))
    attempt.log(events.RUN_FAILED, duration_seconds=0.0, error_kind=fault.kind, error=str(fault))
    events.ORGANIZATION_QUARANTINED.log(
        organization=run.organization_slug, run_id=str(run.run_id), error_kind=fault.kind, error=str(fault)
    )
    return ended


def _succeeded_after_all(attempt: Attempt, ended: Status) -> bool:
    """Whether the fault was only that the answer to the last commit was lost."""
    if ended is not Status.SUCCEEDED:
        return False
    attempt.log(events.RUN_SUCCEEDED, duration_seconds=attempt.elapsed_seconds())
    return True


def _patiently(attempt: Attempt, write: Callable[[], Run]) -> Status:
    """Write the attempt's end, however long Postgres is away, as long as the lease may be this attempt's.

    Gives the run's status then: of the end before, if Postgres has committed one and its answer was lost.
    """
    while True:
        try:
            return write().status
        except AlreadyEnded as known:
            return known.status
        except PostgresUnreachable:
            if not attempt.cancellation.may_go_on(time.monotonic()):
                raise LeaseLost(
                    f"the end of run {attempt.claim.run.run_id} could not be written in its lease's time"
                ) from None
            time.sleep(_PATIENCE_SECONDS)


def _named(fault: Exception) -> KiketError:
    return fault if isinstance(fault, KiketError) else KiketError(f"{type(fault).__name__}: {fault}")
