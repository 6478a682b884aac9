-- Every organisation of the platform with its settings, its cadence, and how far it is behind it.
-- Parameters: plans and hours, two arrays that pair each plan with its default interval. Reads only; put before statements
-- as the table `standing`.
-- What is due is decided by `due`, and the two have to agree: an organisation without interval, or whose slug gives no
-- schema that can be its own, never becomes due. One that was never refreshed is due since its settings were changed.
select
    organization.id as organization_id,
    organization.slug,
    organization.name,
    organization.plan,
    settings.organization_id is not null as has_settings,
    coalesce(settings.enabled, false) as enabled,
    settings.refresh_interval_hours,
    cadence.hours as interval_hours,
    settings.last_run_at,
    settings.quarantine_reason,
    settings.updated_at,
    settings.engine,
    coalesce(settings.docs, false) as docs,
    tenant.can_have_schema,
    due.at as due_at,
    case
        when due.at is not null then extract(epoch from greatest(
            now() - case when settings.last_run_at is null then settings.updated_at else due.at end, interval '0'
        ))::double precision
    end as lag_seconds
from public.organizations as organization
left join kiket_analytics.analytics_settings as settings on settings.organization_id = organization.id
left join unnest(%(plans)s::text[], %(hours)s::integer[]) as plan (name, hours) on plan.name = organization.plan
cross join lateral (select coalesce(settings.refresh_interval_hours, plan.hours)) as cadence (hours)
cross join lateral (
    select organization.slug ~ '^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$'
        and length(organization.slug) <= 49
        and not exists (
            select from kiket_analytics.leases as lease
            where lease.schema_name = 'analytics_org_' || replace(organization.slug, '-', '_')
                and lease.organization_id is distinct from organization.id
        )
    offset 0  -- Looked up once, and not in each place where it is used.
) as tenant (can_have_schema)
cross join lateral (
    select case
        when settings.enabled and tenant.can_have_schema and cadence.hours is not null
        then coalesce(settings.last_run_at + make_interval(hours => cadence.hours), now())
    end
) as due (at)
