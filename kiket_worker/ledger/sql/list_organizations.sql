-- Organisations with their analytics settings and cadence, the next due first.
-- Parameters: plans and hours, two arrays that pair each plan with its default interval; slug, or null for all that
-- have settings. Reads only.
-- What is due is decided by `due`, and the two have to agree: an organisation without interval, or whose slug
-- gives no schema that can be its own, never becomes due.
select
    organization.id as organization_id,
    organization.slug,
    organization.name,
    organization.plan,
    coalesce(settings.enabled, false) as enabled,
    settings.refresh_interval_hours,
    coalesce(settings.refresh_interval_hours, plan.hours) as interval_hours,
    settings.last_run_at,
    settings.quarantine_reason,
    settings.engine,
    coalesce(settings.docs, false) as docs,
    tenant.can_have_schema,
    case
        when settings.enabled
            and tenant.can_have_schema
            and coalesce(settings.refresh_interval_hours, plan.hours) is not null
        then coalesce(
            settings.last_run_at
            + make_interval(hours => coalesce(settings.refresh_interval_hours, plan.hours)), now()
        )
    end as due_at
from public.organizations as organization
left join kiket_analytics.analytics_settings as settings on settings.organization_id = organization.id
left join unnest(%(plans)s::text[], %(hours)s::integer[]) as plan (name, hours) on plan.name = organization.plan
cross join lateral (
    select organization.slug ~ '^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$'
        and length(organization.slug) <= 49
        and not exists (
            select from kiket_analytics.leases as lease
            where lease.schema_name = 'analytics_org_' || replace(organization.slug, '-', '_')
                and lease.organization_id is distinct from organization.id
        )
) as tenant (can_have_schema)
where case when %(slug)s::text is null then settings.organization_id is not null else organization.slug = %(slug)s end
order by due_at nulls last, organization.slug
