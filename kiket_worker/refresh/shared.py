"""The shared schema: built by the first refresh that finds it empty, under a lease of its own."""

import time
from collections.abc import Callable
from dataclasses import replace

from kiket_worker.dbt.engine import Cancellation, Options, Tenant
from kiket_worker.dbt.results import ModelResult
from kiket_worker.errors import SharedModelsMissing
from kiket_worker.ledger import leases
from kiket_worker.ledger.claims import Claim
from kiket_worker.refresh import lease
from kiket_worker.refresh.services import Services
from kiket_worker.tenants.schema import has_relations

SHARED_MODELS = "tag:shared"

_POLL_SECONDS = 0.5
# How long a refresh waits for another worker to build them: longer than any such build takes.
_PATIENCE_SECONDS = 600


def ensure_shared_models(
    services: Services,
    claim: Claim,
    tenant: Tenant,
    options: Options,
    cancellation: Cancellation,
    end_sessions: Callable[[], None],
) -> None:
    """Build the shared models if they are not there; wait if another worker is at it.

    `tenant` lends its names, which the project's macros ask for; the shared models do not depend on them.
    `end_sessions` is called after a failure, before others may build: a killed dbt's statements would go on.
    Raises the engine's failure, or `SharedModelsMissing` when another worker does not get it done.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not has_relations(services.database, services.shared_schema):
        if cancellation.reason:
            raise cancellation.reason
        if time.monotonic() > deadline:
            raise SharedModelsMissing(f"another worker did not build the shared schema {services.shared_schema}")
        claimed_at, ttl_seconds = time.monotonic(), services.lease_ttl_seconds
        epoch = leases.acquire_schema(
            services.database, services.shared_schema, worker=services.worker, ttl_seconds=ttl_seconds
        )
        if epoch is None:
            time.sleep(_POLL_SECONDS)
            continue
        held = replace(claim, schema_name=services.shared_schema, epoch=epoch)
        try:
            with lease.kept(services.database, held, cancellation, claimed_at=claimed_at, ttl_seconds=ttl_seconds):
                # Whoever held the lease a moment ago may have built them since the look above.
                if not has_relations(services.database, services.shared_schema):
                    _build(services, tenant, options, cancellation, end_sessions)
        finally:
            leases.release_schema(services.database, services.shared_schema, epoch)


def _build(
    services: Services,
    tenant: Tenant,
    options: Options,
    cancellation: Cancellation,
    end_sessions: Callable[[], None],
) -> None:
    workdir = options.workdir / "shared"
    workdir.mkdir()
    shared = replace(options, workdir=workdir, selection=(SHARED_MODELS,), exclusion=(), docs=False)
    outcome = services.engine.run(services.bundle, tenant, shared, _ignore, cancellation)
    if outcome.failure:
        end_sessions()
        raise outcome.failure
    if not has_relations(services.database, services.shared_schema):
        raise SharedModelsMissing(f"dbt built the shared models, and left the schema {services.shared_schema} empty")


def _ignore(_: ModelResult) -> None:
    pass
