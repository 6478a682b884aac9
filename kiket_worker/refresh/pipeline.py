"""The way of a refresh: claim → build → archive → record usage, each step from one status of the run to the next.

The lease is held for the whole of it. Whatever a step raises ends the run as failed, with the error's kind and words;
a lost lease ends only this attempt, silently, because the run is another worker's by then.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from kiket_worker import __version__, events
from kiket_worker.artifacts.archive import ArchivedSet, archive
from kiket_worker.dbt.engine import Cancellation, Options, Tenant
from kiket_worker.dbt.results import ModelResult
from kiket_worker.errors import KiketError, LeaseLost, PostgresUnreachable, RunCancelled, WorkerStopped
from kiket_worker.ledger import claims
from kiket_worker.ledger.claims import Claim, NotClaimed
from kiket_worker.ledger.runs import RunModel, Status
from kiket_worker.refresh import lease
from kiket_worker.refresh.attempt import Attempt
from kiket_worker.refresh.services import Services
from kiket_worker.refresh.shared import SHARED_MODELS, ensure_shared_models
from kiket_worker.tenants.schema import schema_name
from kiket_worker.tenants.sessions import application_name, end_sessions


def build(attempt: Attempt) -> Status:
    """running → built: dbt builds the organisation's schema."""
    services, claim = attempt.services, attempt.claim
    run = claim.run
    tenant = Tenant(run.organization_id, run.organization_slug, claim.schema_name, services.shared_schema)
    options = Options(
        workdir=attempt.workdir,
        application_name=application_name(run.run_id),
        full_refresh=run.full_refresh,
        docs=run.docs,
        selection=tuple(run.selection or ()),
        exclusion=(SHARED_MODELS,),
    )
    claims.begin_models(services.database, claim)
    ensure_shared_models(services, tenant, options, attempt.cancellation)
    attempt.outcome = services.engine.run(
        services.bundle, tenant, options, lambda model: _record_model(attempt, model), attempt.cancellation
    )
    if attempt.outcome.failure:
        with services.database.transaction() as connection:
            end_sessions(connection, run.run_id)
    for model in attempt.outcome.models:  # The log told of them too, but only the results are dbt's last word.
        claims.record_model(services.database, claim, _as_run_model(model))
    if attempt.outcome.failure:
        raise attempt.outcome.failure
    claims.mark_built(services.database, claim)
    attempt.log(events.RUN_BUILT, duration_seconds=attempt.elapsed_seconds(), models=len(attempt.outcome.models))
    return Status.BUILT


def archive_artifacts(attempt: Attempt) -> Status:
    """built → archived: every file of the attempt is stored, the index last."""
    archived = _archive(attempt)
    claims.mark_archived(
        attempt.services.database, attempt.claim, location=archived.location, index_sha256=archived.index_sha256
    )
    return Status.ARCHIVED


def record_usage(attempt: Attempt) -> Status:
    """archived → succeeded: usage events, `last_run_at`, the lease and the run's end in one transaction."""
    _, usage_events = claims.succeed(attempt.services.database, attempt.claim)
    attempt.log(events.RUN_SUCCEEDED, duration_seconds=attempt.elapsed_seconds(), usage_events=usage_events)
    return Status.SUCCEEDED


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
            events.RUN_SKIPPED.log(run_id=str(run_id), error_kind=obstacle.kind, error=str(obstacle))
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
            status = STEPS[status](attempt)
            if attempt.cancellation.reason and not status.has_ended:
                raise attempt.cancellation.reason
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
    else:
        return status


def _fail(attempt: Attempt, fault: KiketError) -> Status:
    """End the run as failed. What dbt left is archived if it can be: it is the evidence."""
    if attempt.outcome and attempt.archived is None:
        try:
            attempt.archived = _archive(attempt)
        except KiketError as second:
            fault = fault if attempt.outcome.failure else second
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
        error=_first_line(str(fault)),
        artifacts=archived.location if archived else None,
    )
    return Status.FAILED


def _archive(attempt: Attempt) -> ArchivedSet:
    services, run = attempt.services, attempt.claim.run
    assert attempt.outcome is not None
    attempt.archived = archive(
        services.store,
        f"{run.organization_slug}/{run.run_id}/{run.attempt}",
        attempt.outcome.files,
        {
            "run_id": str(run.run_id),
            "organization": run.organization_slug,
            "attempt": run.attempt,
            "bundle_digest": services.bundle.digest,
            "engine": services.engine.name,
            "versions": {"kiket-worker": __version__} | attempt.outcome.versions,
        },
    )
    attempt.log(
        events.RUN_ARCHIVED,
        duration_seconds=attempt.elapsed_seconds(),
        artifacts=attempt.archived.location,
        files=len(attempt.archived.files),
        bytes=attempt.archived.size,
    )
    return attempt.archived


def _record_model(attempt: Attempt, model: ModelResult) -> None:
    claims.record_model(attempt.services.database, attempt.claim, _as_run_model(model))
    if model.status == "success":
        attempt.log(
            events.MODEL_FINISHED,
            model_id=model.model_id,
            duration_seconds=model.duration_seconds,
            rows_affected=model.rows_affected,
        )
    elif model.status != "running":
        attempt.log(
            events.MODEL_FAILED,
            model_id=model.model_id,
            duration_seconds=model.duration_seconds,
            error=_first_line(model.message or model.status),
        )


def _as_run_model(model: ModelResult) -> RunModel:
    return RunModel(model.model_id, model.status, model.duration_seconds, model.rows_affected, model.message)


def _first_line(text: str) -> str:
    """What may be logged of an error's words: Postgres puts values of rows into the lines that follow."""
    return text.partition("\n")[0]


def _log_claim(attempt: Attempt, claim: Claim) -> None:
    if claim.sessions_ended is not None:
        attempt.log(events.RUN_TAKEN_OVER, sessions_ended=claim.sessions_ended)
    attempt.log(events.RUN_CLAIMED)
