"""The shared schema: built by the first refresh that finds it empty, under a lease of its own."""

import time
from dataclasses import replace

from kiket_worker.dbt.engine import Cancellation, Options, Tenant
from kiket_worker.dbt.results import ModelResult
from kiket_worker.errors import BuildFailed
from kiket_worker.ledger import claims
from kiket_worker.refresh.services import Services
from kiket_worker.tenants.schema import has_relations

SHARED_MODELS = "tag:shared"

_POLL_SECONDS = 0.5
# Nobody renews this lease: it has to last for the one small build that it guards.
_LEASE_SECONDS = 300


class SharedModelsMissing(BuildFailed):
    """The shared schema stays empty, so models that refer to it cannot be built."""

    kind = "shared_models_missing"


def ensure_shared_models(services: Services, tenant: Tenant, options: Options, cancellation: Cancellation) -> None:
    """Build the shared models if they are not there; wait if another worker is at it.

    `tenant` lends its names, which the project's macros ask for; the shared models do not depend on them.
    Raises `SharedModelsMissing`.
    """
    deadline = time.monotonic() + 2 * _LEASE_SECONDS
    while not has_relations(services.database, services.shared_schema):
        if cancellation.reason:
            raise cancellation.reason
        if time.monotonic() > deadline:
            raise SharedModelsMissing(f"another worker did not build the shared schema {services.shared_schema}")
        epoch = claims.acquire_schema(
            services.database, services.shared_schema, worker=services.worker, ttl_seconds=_LEASE_SECONDS
        )
        if epoch is None:
            time.sleep(_POLL_SECONDS)
            continue
        try:
            _build(services, tenant, options, cancellation)
        finally:
            claims.release_schema(services.database, services.shared_schema, epoch)


def _build(services: Services, tenant: Tenant, options: Options, cancellation: Cancellation) -> None:
    workdir = options.workdir / "shared"
    workdir.mkdir()
    shared = replace(options, workdir=workdir, selection=(SHARED_MODELS,), exclusion=(), docs=False)
    outcome = services.engine.run(services.bundle, tenant, shared, _ignore, cancellation)
    if cancellation.reason:
        raise cancellation.reason
    if outcome.failure:
        raise SharedModelsMissing(f"the shared schema {services.shared_schema} could not be built: {outcome.failure}")


def _ignore(_: ModelResult) -> None:
    pass
