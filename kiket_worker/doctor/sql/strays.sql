-- Tenants whose organisation is gone or has another slug, and those whose passwords are of an older key.
-- Parameters: key_version. Reads the ledger.
select
    array(
        select tenant.schema_name
        from kiket_analytics.tenants as tenant
        where tenant.organization_id is not null
            and not exists (
                select from public.organizations as organization
                where organization.id = tenant.organization_id
                    and 'analytics_org_' || replace(organization.slug, '-', '_') = tenant.schema_name
            )
        order by tenant.schema_name
        limit 20
    ) as gone_tenants,
    (
        select count(*) from kiket_analytics.tenants as tenant where tenant.key_version <> %(key_version)s
    ) as older_keys
