-- Organisations with their analytics settings and cadence, the next due first.
-- Parameters: plans and hours, two arrays that pair each plan with its default interval; slug, or null for all that
-- have settings.
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
    -- Without any interval it never becomes due.
    case when settings.enabled and coalesce(settings.refresh_interval_hours, plan.hours) is not null then
        coalesce(
            settings.last_run_at
            + make_interval(hours => coalesce(settings.refresh_interval_hours, plan.hours)), now()
        )
    end as due_at
from public.organizations as organization
left join kiket_analytics.analytics_settings as settings on settings.organization_id = organization.id
left join unnest(%(plans)s::text[], %(hours)s::integer[]) as plan (name, hours) on plan.name = organization.plan
where case when %(slug)s::text is null then settings.organization_id is not null else organization.slug = %(slug)s end
order by due_at nulls last, organization.slug
