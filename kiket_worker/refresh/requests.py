"""Asking for a refresh: the request becomes a row in the ledger before anything else happens."""

from kiket_worker import events
from kiket_worker.contract import RefreshMessage
from kiket_worker.errors import OrganizationDisabled, OrganizationQuarantined
from kiket_worker.ledger import organizations, runs
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.organizations import Organization
from kiket_worker.ledger.runs import Accepted, Request
from kiket_worker.tenants.schema import schema_name


def accept(database: Database, message: RefreshMessage, *, forced: bool = False) -> Accepted:
    """Put what a message asks for into the ledger. Raises `UnknownOrganization`."""
    organization = organizations.find(database, message.organization)
    return submit(
        database,
        Request(
            organization_id=organization.organization_id,
            organization_slug=organization.slug,
            reason=message.reason,
            requested_by=message.requested_by,
            idempotency_key=message.idempotency_key,
            forced=forced,
            full_refresh=message.full_refresh,
            docs=message.docs,
            selection=message.select,
            traceparent=message.caller,
        ),
    )


def check_refreshable(organization: Organization, *, forced: bool = False) -> None:
    """Raise what keeps an organisation from being refreshed by hand.

    Raises `InvalidSlug`, and unless it is `forced`, `OrganizationQuarantined` and `OrganizationDisabled`.
    """
    schema_name(organization.slug)
    if organization.quarantine_reason and not forced:
        raise OrganizationQuarantined(organization.slug, organization.quarantine_reason)
    if not organization.enabled and not forced:
        raise OrganizationDisabled(organization.slug)


def submit(database: Database, wanted: Request) -> Accepted:
    """Put a request into the ledger and log it."""
    accepted = runs.request(database, wanted)
    event = events.RUN_QUEUED if accepted.is_new else events.RUN_COALESCED
    event.log(organization=wanted.organization_slug, run_id=str(accepted.run_id), reason=wanted.reason)
    return accepted
