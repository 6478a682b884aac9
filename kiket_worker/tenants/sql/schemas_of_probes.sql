-- The schemas of probes where all tenants share one role: made up to record dbt or to try definitions, and no
-- organisation's.
-- Parameters: prefix, of their slugs, with underscores.
-- Concurrent calls: reads one catalog and one table of the platform.
select nspname as schema_name
from pg_catalog.pg_namespace
where starts_with(nspname, 'analytics_org_' || %(prefix)s)
    -- Whoever was an organisation once has a lease row, which is never deleted.
    and not exists (select from kiket_analytics.leases as lease where lease.schema_name = nspname)
    and not exists (
        select from public.organizations as organization
        where 'analytics_org_' || replace(organization.slug, '-', '_') = nspname
    )
