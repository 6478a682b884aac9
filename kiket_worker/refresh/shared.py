"""The shared refresh: models for all organisations, built once.

It has a lease, a cadence, a bundle and a database role of its own. Whichever refresh finds the shared models due builds
them before its organisation's; nobody waits for them but the first.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from kiket_worker import __version__, events
from kiket_worker.artifacts.archive import archive
from kiket_worker.dbt.engine import Listener, Options, Outcome, SharedModels
from kiket_worker.errors import KiketError, LeaseLost, SharedModelsMissing
from kiket_worker.ledger import leases, shared_refreshes
from kiket_worker.ledger.runs import lock
from kiket_worker.refresh import lease
from kiket_worker.refresh.attempt import Attempt
from kiket_worker.tenants.schema import has_relations
from kiket_worker.tenants.sessions import application_name

_POLL_SECONDS = 0.5
# How long a refresh waits for another worker to build them: longer than any such build takes.
_PATIENCE_SECONDS = 600
_RETRY_SECONDS = 600


def ensure_shared_models(attempt: Attempt) -> None:
    """Build the shared models if they are due. While others build them, go on with those of the last time.

    Raises what kept them from being built where there are none at all, or `SharedModelsMissing`.
    """
    services = attempt.services
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while _is_wanted(attempt):
        if attempt.cancellation.reason:
            raise attempt.cancellation.reason
        with _lease(attempt) as epoch:
            if epoch is not None:
                # Whoever held the lease a moment ago may have built them since the look above.
                if _is_wanted(attempt):
                    _refresh(attempt, epoch)
                return
        if has_relations(services.database, services.shared_schema):
            return
        if time.monotonic() > deadline:
            raise SharedModelsMissing(f"another worker did not build the shared schema {services.shared_schema}")
        time.sleep(_POLL_SECONDS)


def _is_wanted(attempt: Attempt) -> bool:
    services = attempt.services
    if not has_relations(services.database, services.shared_schema):
        return True
    now = shared_refreshes.freshness(
        services.database,
        services.shared_schema,
        bundle_digest=services.shared_bundle.digest,
        interval_hours=services.shared_interval_hours,
        retry_seconds=_RETRY_SECONDS,
    )
    return now.is_due and not now.tried_lately


@contextmanager
def _lease(attempt: Attempt) -> Iterator[int | None]:
    """Hold the lease of the shared schema until the block ends, by its epoch; None where somebody else holds it."""
    services, schema = attempt.services, attempt.services.shared_schema
    claimed_at, ttl_seconds = time.monotonic(), services.lease_ttl_seconds
    epoch = leases.acquire_schema(services.database, schema, worker=services.worker, ttl_seconds=ttl_seconds)
    if epoch is None:
        yield None
        return
    held = replace(attempt.claim, schema_name=schema, epoch=epoch)
    try:
        with lease.kept(services.database, held, attempt.cancellation, claimed_at=claimed_at, ttl_seconds=ttl_seconds):
            yield epoch
    finally:
        leases.release_schema(services.database, schema, epoch)


def _refresh(attempt: Attempt, epoch: int) -> None:
    """Build, archive and write down how it went; a failure is raised only where there are no shared models."""
    services, schema = attempt.services, attempt.services.shared_schema
    began = time.monotonic()
    bundle = services.shared_bundle
    refresh_id = shared_refreshes.begin(
        services.database, schema, bundle_digest=bundle.digest, epoch=epoch, worker=services.worker
    )
    location: str | None = None
    failure: KiketError | None = None
    outcome = Outcome(())
    try:
        outcome = _build(attempt, epoch)
        location = archive(
            services.store,
            # No organisation's: a slug does not begin with an underscore.
            f"_shared/{refresh_id}/1",
            outcome.files,
            {
                "refresh_id": str(refresh_id),
                "schema": schema,
                "attempt": 1,
                "bundle_digest": bundle.digest,
                "engine": outcome.engine,
                "versions": {"kiket-worker": __version__} | outcome.versions,
            },
            scratch=attempt.workdir,
        ).location
        failure = outcome.failure
        if not failure and not has_relations(services.database, schema):
            failure = SharedModelsMissing(f"dbt built the shared models, and left the schema {schema} empty")
    except KiketError as fault:
        failure = outcome.failure or fault
    shared_refreshes.end(services.database, refresh_id, failure, location)
    duration_seconds = round(time.monotonic() - began, 3)
    if failure is None:
        events.SHARED_REFRESHED.log(
            worker=services.worker,
            duration_seconds=duration_seconds,
            models=len(outcome.models),
            artifacts=location,
        )
        return
    if attempt.cancellation.reason or not has_relations(services.database, schema):
        raise failure
    events.SHARED_FAILED.log(
        worker=services.worker,
        duration_seconds=duration_seconds,
        error_kind=failure.kind,
        error=str(failure).partition("\n")[0],
        artifacts=location,
    )


def _build(attempt: Attempt, epoch: int) -> Outcome:
    services, schema, run_id = attempt.services, attempt.services.shared_schema, attempt.claim.run.run_id
    folder = attempt.workdir / "shared"
    folder.mkdir()
    # A builder that was killed may have left its statements.
    _end_sessions(attempt, epoch)
    login = services.isolation.log_in_shared(services.database, schema, epoch)
    outcome = services.engine.run(
        services.shared_bundle.laid_out(folder / "project"),
        SharedModels(schema, login.role, login.password) if login else SharedModels(schema),
        Options(
            workdir=folder, application_name=application_name(run_id), most_log_bytes=services.telemetry.most_log_bytes
        ),
        Listener(on_event=attempt.recording.dbt_event),
        attempt.cancellation,
    )
    if outcome.failure:
        _end_sessions(attempt, epoch)
    return outcome


def _end_sessions(attempt: Attempt, epoch: int) -> None:
    """End sessions that build the shared schema. Raises `LeaseLost`: those of a later builder have the same name."""
    services, claim = attempt.services, attempt.claim
    with services.database.transaction() as connection:
        run = lock(connection, claim.run.run_id)
        if run is None or run.lease_epoch != claim.epoch or not leases.holds(connection, services.shared_schema, epoch):
            raise LeaseLost(f"the lease of {services.shared_schema}, or of {claim.schema_name}, was taken over")
        services.isolation.end_sessions(connection, claim.run.run_id, services.shared_schema)
