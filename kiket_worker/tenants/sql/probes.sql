-- The probes that there are: tenants that were made up to record dbt or to try definitions, and that no organisation
-- is.
-- Parameters: prefix, of their slugs, with underscores.
-- Concurrent calls: reads one table of the ledger and one of the platform.
select schema_name
from kiket_analytics.tenants as tenant
where starts_with(schema_name, 'analytics_org_' || %(prefix)s)
    -- Whoever was an organisation once has a lease row, which is never deleted.
    and not exists (select from kiket_analytics.leases as lease where lease.schema_name = tenant.schema_name)
    and not exists (
        select from public.organizations as organization
        where 'analytics_org_' || replace(organization.slug, '-', '_') = tenant.schema_name
    )
