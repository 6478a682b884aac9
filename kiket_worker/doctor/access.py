"""What the database lets an organisation do and see: its role, its sources, its relations."""

from collections.abc import Iterator, Mapping, Sequence

from kiket_worker.dbt.contents import Contents
from kiket_worker.doctor.finding import Finding, error, info, warning
from kiket_worker.errors import TenantLoginFailed, TenantNotIsolated
from kiket_worker.ledger.database import Connection, Database, statement
from kiket_worker.settings import Settings
from kiket_worker.tenants.gates import Gate
from kiket_worker.tenants.keys import TenantKeys
from kiket_worker.tenants.login import Login, check_identity, session, shows_rows
from kiket_worker.tenants.provisioning import Candidate, Limits, Provisioner
from kiket_worker.tenants.schema import schema_name


def examine_role(
    settings: Settings,
    database: Database,
    candidate: Candidate,
    gates: Sequence[Gate],
    contents: Contents,
    address: Mapping[str, str],
) -> Iterator[Finding]:
    """Whether the organisation's role is as it should be, and what its models' sources show it.

    Raises `InvalidSetting` without the keys of tenants.
    """
    slug, schema, keys = candidate.slug, schema_name(candidate.slug), TenantKeys.from_settings(settings)
    with database.transaction() as connection:
        drift = Provisioner(keys, Limits.from_settings(settings)).drift(connection, candidate)
    if "registration" in drift:
        yield info(
            "not_provisioned",
            f"{slug} has no role and schema of its own yet; its first refresh makes them",
            f"nothing; or `kiket-worker tenants provision {slug}`",
            slug,
        )
        return
    mend = f"`kiket-worker tenants provision {slug}`; the next refresh does the same"
    if drift:
        yield warning(
            "tenant_drifted",
            f"role or schema of {slug} differ from what they should be: {', '.join(drift)}",
            mend,
            slug,
        )
        if {"role", "login", "key"} & set(drift):
            return
    try:
        with session(address, Login(schema, keys.password(schema, keys.current))) as connection:
            check_identity(connection, schema, candidate.organization_id)
            yield from _sources(connection, slug, {gate.name: gate for gate in gates}, contents)
    except (TenantLoginFailed, TenantNotIsolated) as fault:
        yield error(fault.kind, str(fault), mend, slug)


def examine_relations(
    database: Database, slug: str, contents: Contents, *, was_refreshed: bool, has_role: bool
) -> Iterator[Finding]:
    """Whether the bundle's models are there, and the organisation's own."""
    schema = schema_name(slug)
    rows = database.rows(statement("relations", __package__), {"schema_name": schema})
    owners = {row["relname"]: row["owner"] for row in rows}
    if not was_refreshed and not owners:
        return
    if absent := sorted(contents.models - contents.ephemeral - owners.keys()):
        yield warning(
            "model_not_built",
            f"these models of {slug} have no relation in {schema}: {', '.join(absent)}",
            f"`kiket-worker refresh {slug} --wait` builds them, or says why not",
            slug,
        )
    foreign = sorted(name for name, owner in owners.items() if owner != schema and name in contents.models)
    if foreign and has_role:
        yield error(
            "relation_owned_by_another",
            f"{', '.join(f'{name} ({owners[name]})' for name in foreign)} in {schema} belong to other roles, and the "
            "organisation's own cannot replace them",
            f"run `kiket-worker tenants provision {slug}` with the DATABASE_URL of a superuser",
            slug,
        )


def _sources(connection: Connection, slug: str, gates: Mapping[str, Gate], contents: Contents) -> Iterator[Finding]:
    """Whether what the bundle reads is there, listed and not empty, as the organisation's own role sees it."""
    for table in contents.raw_tables:
        gate = gates.get(table)
        if gate is None:
            yield error(
                "source_not_listed",
                f"models of {slug} read {table}, which is on no list of gates",
                "add it to the list of gates (KIKET_GATES_FILE) and run `kiket-worker migrate --roles`",
                slug,
            )
            continue
        has_rows = shows_rows(connection, gate.name)
        if has_rows is None:
            yield error(
                "source_absent",
                f"models of {slug} read {table}, and there is no gate to {gate.schema}.{gate.table}",
                "see that the platform has the table, then run `kiket-worker migrate --roles`",
                slug,
            )
        elif not has_rows:
            yield info(
                "source_empty",
                f"{gate.schema}.{gate.table} has no rows of {slug}",
                "nothing, if the organisation has no such data",
                slug,
            )
