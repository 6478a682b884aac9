-- Schemas named as an organisation's that no organisation has, and no tenant either. Takes no parameters. Reads catalogs
-- and the ledger.
select nspname::text as schema_name
from pg_namespace
where nspname ~ '^analytics_org_'
    and not exists (select from kiket_analytics.tenants as tenant where tenant.schema_name = nspname)
    and not exists (
        select from public.organizations as organization
        where 'analytics_org_' || replace(organization.slug, '-', '_') = nspname
    )
order by nspname
limit 20
