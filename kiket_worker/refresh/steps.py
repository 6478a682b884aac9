"""The steps of a refresh between claim and end: each does its part for an attempt and gives the run's next status.

A step raises what keeps it from getting there, and the pipeline ends the run accordingly.
"""

import re
from dataclasses import asdict

from kiket_worker import __version__, events
from kiket_worker.artifacts.archive import ArchivedSet, archive
from kiket_worker.dbt.bundle import SHARED_MODELS
from kiket_worker.dbt.docs import PAGE_NAME
from kiket_worker.dbt.engine import Listener, Options, Outcome, Tenant
from kiket_worker.dbt.results import ModelResult
from kiket_worker.errors import KiketError, LeaseLost
from kiket_worker.ledger import attempts
from kiket_worker.ledger.runs import RunModel, Status, lock
from kiket_worker.refresh.attempt import Attempt
from kiket_worker.refresh.dropped import drop_left, remember_built
from kiket_worker.refresh.limits import WHILE_BUILDING, check_quota, kept_within
from kiket_worker.refresh.shared import ensure_shared_models
from kiket_worker.tenants.provisioning import Candidate
from kiket_worker.tenants.sessions import application_name

# As dbt begins what it says of a node: "Database Error in model fct_throughput (models/marts/fct_throughput.sql)".
_HEADING = re.compile(r"\bError in \w+ \S+ \(\S+\)$")


def build(attempt: Attempt) -> Status:
    """running → built: dbt builds the organisation's schema, as the organisation's own role."""
    services, claim = attempt.services, attempt.claim
    settings = attempts.begin_models(services.database, claim)
    engine = services.engine_of(settings.engine)
    bundle = attempt.bundle = services.bundles.of(claim.overlays)
    attempt.recording.of_bundle(bundle.digest)
    ensure_shared_models(attempt)
    tenant = log_in(attempt)
    options = Options(
        workdir=attempt.workdir,
        application_name=application_name(claim.run.run_id),
        full_refresh=claim.run.full_refresh,
        docs=claim.run.docs or settings.docs,
        selection=tuple(claim.run.selection or ()),
        exclusion=(SHARED_MODELS,),
        most_log_bytes=services.telemetry.most_log_bytes,
        most_bytes=WHILE_BUILDING * services.isolation.limits.quota_megabytes * 1024 * 1024,
    )
    listener = Listener(lambda model: _record_model(attempt, model), attempt.recording.dbt_event)
    try:
        with kept_within(attempt):
            attempt.outcome = engine.run(bundle, tenant, options, listener, attempt.cancellation)
    finally:
        if tenant.session is not None:
            tenant.session.close()
    if reason := attempt.outcome.deoptimised:
        attempt.log(events.ENGINE_DEOPTIMISED, reason=reason.reason, error=first_line(reason.words))
    if attempt.outcome.failure:
        _end_own_sessions(attempt)
    # The log told of them too, but only the results are dbt's last word.
    attempts.record_models(services.database, claim, [_as_row(model) for model in attempt.outcome.models])
    for model in attempt.outcome.models:
        _log_model(attempt, model)
    remember_built(attempt, settings.built)
    if attempt.outcome.failure:
        raise attempt.outcome.failure
    check_quota(attempt)
    attempts.mark_built(services.database, claim)
    attempt.log(
        events.RUN_BUILT,
        duration_seconds=attempt.elapsed_seconds(),
        step_seconds=attempt.step_seconds(),
        models=len(attempt.outcome.models),
        definitions_version=claim.definitions_version,
    )
    return Status.BUILT


def log_in(attempt: Attempt) -> Tenant:
    """The organisation as dbt builds for it, its role provisioned and its session's identity checked."""
    services, claim = attempt.services, attempt.claim
    candidate = Candidate(claim.run.organization_id, claim.run.organization_slug)
    login = services.isolation.log_in(services.database, candidate, claim.schema_name, claim.epoch)
    return Tenant(
        organization_id=candidate.organization_id,
        slug=candidate.slug,
        schema=claim.schema_name,
        shared_schema=services.shared_schema,
        raw_schema=services.isolation.raw_schema,
        ledger_schema=services.isolation.ledger_schema,
        user=login.role if login else None,
        password=login.password if login else "",
        session=login.session if login else None,
    )


def archive_artifacts(attempt: Attempt) -> Status:
    """built → archived: every file of the attempt is stored, the index last."""
    archived = archive_outcome(attempt)
    attempts.mark_archived(
        attempt.services.database, attempt.claim, location=archived.location, index_sha256=archived.index_sha256
    )
    return Status.ARCHIVED


def record_usage(attempt: Attempt) -> Status:
    """archived → succeeded: usage events, `last_run_at`, the lease and the run's end in one transaction.

    Before it, what models have left that the bundle has no more is removed.
    """
    _, usage_events = attempts.succeed(attempt.services.database, attempt.claim, drop_left(attempt))
    attempt.log(
        events.RUN_SUCCEEDED,
        duration_seconds=attempt.elapsed_seconds(),
        step_seconds=attempt.step_seconds(),
        usage_events=usage_events,
    )
    return Status.SUCCEEDED


def archive_outcome(attempt: Attempt, fault: KiketError | None = None) -> ArchivedSet:
    """Store what the attempt has left, whether it succeeded or ends with a fault. Raises what the store raises."""
    services, run = attempt.services, attempt.claim.run
    # Of an attempt that failed before dbt began, there are the records of how it came to that.
    outcome = attempt.outcome or Outcome((), engine=None)
    cut = outcome.cut | attempt.recording.seal()
    attempt.archived = archive(
        services.store,
        f"{run.organization_slug}/{run.run_id}/{run.attempt}",
        outcome.files | {attempt.recording.path.name: attempt.recording.path},
        {
            "run_id": str(run.run_id),
            "organization": run.organization_slug,
            "attempt": run.attempt,
            "bundle_digest": attempt.bundle.digest if attempt.bundle else None,
            "definitions_version": attempt.claim.definitions_version,
            "engine": outcome.engine,
            "versions": {"kiket-worker": __version__} | outcome.versions,
            "cut": {name: asdict(left_out) for name, left_out in cut.items()},
            "error": {"kind": fault.kind, "message": str(fault)} if fault else None,
        },
        pages={PAGE_NAME: outcome.docs} if outcome.docs else {},
        scratch=attempt.workdir,
    )
    attempt.log(
        events.RUN_ARCHIVED,
        duration_seconds=attempt.elapsed_seconds(),
        step_seconds=attempt.step_seconds(),
        artifacts=attempt.archived.location,
        files=len(attempt.archived.files),
        bytes=attempt.archived.size,
    )
    return attempt.archived


def first_line(text: str) -> str:
    """An error's words for the log: the first line, and the one after it where the first is only a heading."""
    heading, _, rest = text.strip().partition("\n")
    if _HEADING.search(heading) and rest:
        return f"{heading}: {rest.strip().partition(chr(10))[0]}"
    return heading


def _record_model(attempt: Attempt, model: ModelResult) -> None:
    attempts.record_model(attempt.services.database, attempt.claim, _as_row(model))


def _as_row(model: ModelResult) -> RunModel:
    return RunModel(
        model.model_id, model.status, model.duration_seconds, model.rows_affected, model.message, model.started_at
    )


def _log_model(attempt: Attempt, model: ModelResult) -> None:
    if model.status == "success":
        attempt.log(
            events.MODEL_FINISHED,
            model_id=model.model_id,
            duration_seconds=model.duration_seconds,
            rows_affected=model.rows_affected,
        )
    else:
        attempt.log(
            events.MODEL_FAILED,
            model_id=model.model_id,
            duration_seconds=model.duration_seconds,
            error=first_line(model.message or model.status),
        )


def _end_own_sessions(attempt: Attempt) -> None:
    """End what dbt's sessions still do. Raises `LeaseLost`: the sessions of a later attempt have the same name.

    A takeover ends this attempt's sessions, so its dbt fails, and often before the lease is seen to be lost.
    """
    claim = attempt.claim
    with attempt.services.database.transaction() as connection:
        run = lock(connection, claim.run.run_id)
        if run is None or run.lease_epoch != claim.epoch:
            raise LeaseLost(f"run {claim.run.run_id} was taken over from epoch {claim.epoch} of {claim.schema_name}")
        attempt.services.isolation.end_sessions(connection, claim.run.run_id, claim.schema_name)
