"""What the console changes: the same for the API and for the pages."""

from collections.abc import Sequence
from uuid import UUID

from kiket_worker.console.access import visible_organization, visible_run
from kiket_worker.console.services import Services
from kiket_worker.contract import Reason
from kiket_worker.errors import UsageError
from kiket_worker.ledger import organizations, runs
from kiket_worker.ledger.organizations import Organization
from kiket_worker.ledger.runs import Request, Run
from kiket_worker.ledger.tokens import Holder
from kiket_worker.refresh.requests import check_refreshable, submit
from kiket_worker.tenants.schema import check_own_schema


def request_refresh(
    services: Services,
    caller: Holder,
    slug: str,
    *,
    reason: Reason = Reason.MANUAL,
    full_refresh: bool = False,
    docs: bool = False,
    selection: Sequence[str] | None = None,
    requested_by: str | None = None,
    idempotency_key: str | None = None,
    traceparent: str | None = None,
) -> Run:
    """Ask for a refresh and give the run that serves it: a new one, one that waits, or the one that the key has named.

    A key is answered as the first time, whatever became of the organisation since. Raises `UnknownOrganization`,
    `OrganizationDisabled`, `OrganizationQuarantined`, `InvalidSlug`, and `UsageError` for a text that cannot be kept.
    """
    organization = visible_organization(services, caller, slug)
    if idempotency_key is not None:
        named = runs.named_by(services.database, organization.organization_id, idempotency_key)
        if named is not None:
            return runs.get(services.database, named)
    check_refreshable(organization)
    accepted = submit(
        services.database,
        Request(
            organization_id=organization.organization_id,
            organization_slug=slug,
            reason=reason,
            requested_by=requested_by or f"token:{caller.token_id}",
            idempotency_key=idempotency_key,
            full_refresh=full_refresh,
            docs=docs,
            selection=selection,
            traceparent=traceparent,
        ),
    )
    services.wake(organization.organization_id)
    return runs.get(services.database, accepted.run_id)


def retry_run(services: Services, caller: Holder, run_id: UUID, *, idempotency_key: str | None = None) -> Run:
    """Ask for what a run was asked for, again; give the new run, or the one that waits.

    Raises `UnknownRun`, `UsageError` for a run that has not ended, and what `request_refresh` raises.
    """
    earlier = visible_run(services, caller, run_id)
    if not earlier.status.has_ended:
        raise UsageError(f"The run has not ended: it is {earlier.status}, so that there is nothing to retry.")
    return request_refresh(
        services,
        caller,
        earlier.organization_slug,
        reason=Reason.RETRY,
        full_refresh=earlier.full_refresh,
        docs=earlier.docs,
        selection=earlier.selection,
        idempotency_key=idempotency_key,
    )


def cancel_run(services: Services, caller: Holder, run_id: UUID) -> Run:
    """End a run: at once if it waits, else as soon as its worker hears of it; give it as it is then.

    Raises `UnknownRun` and `RunNotCancellable`.
    """
    visible_run(services, caller, run_id)
    runs.cancel(services.database, run_id)
    return runs.get(services.database, run_id)


def change_settings(
    services: Services,
    caller: Holder,
    slug: str,
    *,
    enabled: bool | None = None,
    refresh_interval_hours: int | None = None,
    use_plan_default: bool = False,
    docs: bool | None = None,
) -> Organization:
    """Change what is given, and give the organisation as it is then.

    Raises `UnknownOrganization`; and `InvalidSlug` and `SchemaTaken` for one to be enabled that can have no schema.
    """
    organization_id = visible_organization(services, caller, slug).organization_id
    if enabled:
        check_own_schema(services.database, slug, organization_id)
    organizations.save_settings(
        services.database,
        organization_id,
        enabled=enabled,
        refresh_interval_hours=refresh_interval_hours,
        use_plan_default=use_plan_default,
        docs=docs,
    )
    return organizations.find(services.database, slug)
