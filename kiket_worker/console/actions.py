"""What the console changes: the same for the API and for the pages."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from kiket_worker import events
from kiket_worker.console.access import visible_organization, visible_run
from kiket_worker.console.services import Services
from kiket_worker.contract import Reason
from kiket_worker.errors import SchemaTaken, UnknownOrganization, UsageError, told_to_organization
from kiket_worker.ledger import freshness, organizations, runs
from kiket_worker.ledger.organizations import Organization
from kiket_worker.ledger.runs import Request, Run
from kiket_worker.ledger.tokens import Holder
from kiket_worker.refresh.requests import check_refreshable, submit
from kiket_worker.tenants.schema import check_own_schema

# Before a token's id, where the ledger says who has asked.
_ASKER = "token:"


def request_refresh(
    services: Services,
    caller: Holder,
    slug: str,
    *,
    full_refresh: bool = False,
    docs: bool = False,
    selection: Sequence[str] | None = None,
    requested_by: str | None = None,
    idempotency_key: str | None = None,
    traceparent: str | None = None,
) -> Run:
    """Ask for a refresh and give the run that serves it: a new one, one that waits, or the one that the key has named.

    A key is answered as the first time, whatever became of the organisation since. Raises `UnknownOrganization`,
    `OrganizationDisabled`, `OrganizationQuarantined`, `InvalidSlug` or `SchemaTaken` as `change_settings` does, and
    `UsageError` for a text that cannot be kept.
    """
    organization = visible_organization(services, caller, slug)
    request = Request(
        organization_id=organization.organization_id,
        organization_slug=organization.slug,
        requested_by=requested_by,
        idempotency_key=idempotency_key,
        full_refresh=full_refresh,
        docs=docs,
        selection=selection,
        traceparent=traceparent,
    )
    return _refresh(services, caller, organization, request)


def _refresh(services: Services, caller: Holder, organization: Organization, request: Request) -> Run:
    """Ask for it, as the caller's where the request names nobody."""
    if request.idempotency_key is not None:
        named = runs.named_by(services.database, organization.organization_id, request.idempotency_key)
        if named is not None:
            return runs.get(services.database, named)
    if request.requested_by is not None and request.requested_by.startswith(_ASKER):
        raise UsageError(f"requested_by begins with {_ASKER}, which only the console itself writes: leave it out.")
    check_refreshable(organization)
    if not organization.can_have_schema:  # Known with the organisation: asked again for the words only.
        _check_schema(services, caller, organization.slug, organization.organization_id)
    accepted = submit(services.database, replace(request, requested_by=request.requested_by or _asker(caller)))
    services.wake(organization.organization_id)
    return runs.get(services.database, accepted.run_id)


def _check_schema(services: Services, caller: Holder, slug: str, organization_id: int) -> None:
    try:
        check_own_schema(services.database, slug, organization_id)
    except SchemaTaken as fault:
        if caller.organization_id is None:
            raise
        raise told_to_organization(fault, slug) from None


def retry_run(services: Services, caller: Holder, run_id: UUID, *, idempotency_key: str | None = None) -> Run:
    """Ask for what a run was asked for, again; give the new run, or the one that waits.

    Raises `UnknownRun`, `UsageError` for a run that has not ended, and what `request_refresh` raises.
    """
    earlier = visible_run(services, caller, run_id)
    if not earlier.status.has_ended:
        raise UsageError(f"The run has not ended: it is {earlier.status}, so that there is nothing to retry.")
    found = freshness.of(services.database, earlier.organization_id)
    if found is None:
        raise UnknownOrganization(earlier.organization_slug)
    request = Request(
        organization_id=earlier.organization_id,
        organization_slug=found.organization.slug,  # As it is called now: its earlier slug may be another's.
        reason=Reason.RETRY,
        idempotency_key=idempotency_key,
        full_refresh=earlier.full_refresh,
        docs=earlier.docs,
        selection=earlier.selection,
    )
    return _refresh(services, caller, found.organization, request)


def cancel_run(services: Services, caller: Holder, run_id: UUID) -> Run:
    """End a run: at once if it waits, else as soon as its worker hears of it; give it as it is then.

    Raises `UnknownRun` and `RunNotCancellable`.
    """
    run = visible_run(services, caller, run_id)
    runs.cancel(services.database, run_id)
    events.CONSOLE_CANCEL_REQUESTED.log(
        organization=run.organization_slug, run_id=str(run_id), requested_by=_asker(caller)
    )
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

    Raises `UnknownOrganization`; and `InvalidSlug` for one to be enabled that can have no schema, which operators
    are told as `SchemaTaken` where it is another organisation's.
    """
    organization_id = visible_organization(services, caller, slug).organization_id
    if enabled:
        _check_schema(services, caller, slug, organization_id)
    organizations.save_settings(
        services.database,
        organization_id,
        enabled=enabled,
        refresh_interval_hours=refresh_interval_hours,
        use_plan_default=use_plan_default,
        docs=docs,
    )
    given = {
        "enabled": enabled,
        "refresh_interval_hours": "plan" if use_plan_default else refresh_interval_hours,
        "docs": docs,
    }
    changes = [f"{name}={value}".lower() for name, value in given.items() if value is not None]
    if changes:
        events.CONSOLE_SETTINGS_CHANGED.log(organization=slug, requested_by=_asker(caller), changes=changes)
    return organizations.find(services.database, slug)


def _asker(caller: Holder) -> str:
    return f"{_ASKER}{caller.token_id}"
