-- Tenants whose passwords are not of the current key, by the names of their schemas.
-- Parameters: key_version, after (a schema's name), batch. Reads only. A renamed organisation's earlier schema, or that
-- of one that is gone, has no slug here: nobody refreshes it any more.
select
    tenant.schema_name,
    tenant.organization_id,
    tenant.organization_id is null as is_shared,
    organization.slug
from kiket_analytics.tenants as tenant
left join public.organizations as organization
    on organization.id = tenant.organization_id
    and 'analytics_org_' || replace(organization.slug, '-', '_') = tenant.schema_name
where tenant.key_version <> %(key_version)s and tenant.schema_name > %(after)s
order by tenant.schema_name
limit %(batch)s
