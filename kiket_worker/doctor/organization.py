"""What is wrong with one organisation, looked at from all sides."""

from collections.abc import Iterator, Mapping, Sequence

from kiket_worker.dbt.contents import Contents
from kiket_worker.doctor.access import examine_relations, examine_role
from kiket_worker.doctor.delays import explain_delays
from kiket_worker.doctor.failures import explain_failures
from kiket_worker.doctor.finding import Finding, error
from kiket_worker.errors import InvalidSlug
from kiket_worker.ledger.database import Database, statement
from kiket_worker.ledger.organizations import Organization
from kiket_worker.settings import IsolationMode, Settings
from kiket_worker.tenants.gates import Gate
from kiket_worker.tenants.provisioning import Candidate
from kiket_worker.tenants.schema import schema_name


def examine_organization(
    settings: Settings,
    database: Database,
    organization: Organization,
    gates: Sequence[Gate],
    contents: Contents,
    address: Mapping[str, str],
) -> Iterator[Finding]:
    """Everything that is found: why it is late, why it fails, what its role lacks, what it has not built.

    `contents` are those of its bundle; `address` is where its role logs in, in libpq's words.
    """
    slug = organization.slug
    try:
        schema = schema_name(slug)
    except InvalidSlug as fault:
        yield error(fault.kind, str(fault), "rename the organisation", slug)
        return
    if not organization.can_have_schema:
        yield error(
            "organization_schema_taken",
            f"schema {schema} belongs to another organisation, whose slug gives the same name",
            "rename one of the two organisations",
            slug,
        )
        return
    progress = database.rows(
        statement("progress", __package__),
        {"organization_id": organization.organization_id, "schema_name": schema},
    )[0]
    failed_models = database.rows(statement("failed_models", __package__), {"run_id": progress["failed_run_id"]})
    yield from explain_delays(organization, progress, tick_interval_seconds=settings.tick_interval_seconds)
    yield from explain_failures(
        organization,
        progress,
        failed_models,
        known_models=contents.models | contents.shared_models,
        gates={gate.name for gate in gates},
    )
    has_role = settings.isolation is IsolationMode.ROLES
    if has_role and settings.tenant_keys is not None:
        candidate = Candidate(organization.organization_id, slug)
        yield from examine_role(settings, database, candidate, gates, contents, address)
    yield from examine_relations(
        database, slug, contents, was_refreshed=progress["succeeded_at"] is not None, has_role=has_role
    )
