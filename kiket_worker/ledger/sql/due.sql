-- Who is due: opted in, not in quarantine, able to have a schema, and never refreshed or last an interval ago at least.
-- Whether a run of theirs is active already is for the reader to ask.
-- Parameters: now, or null for the database's time; plans and hours, two arrays that pair each plan with its default
-- interval. Reads only; put before statements as the table `due`.
-- The index `settings_by_due` finds who may be due, however many are not. Everything else is looked up one by one
-- (`offset 0`), whatever the planner expects: it cannot know who becomes due after it has last counted.
select
    settings.organization_id,
    organization.slug,
    organization.plan,
    settings.last_run_at,
    settings.updated_at,
    cadence.hours as interval_hours,
    settings.last_run_at + make_interval(hours => cadence.hours) as due_at
from kiket_analytics.analytics_settings as settings
cross join lateral (
    select
        named.slug,
        named.plan,
        -- What cannot have a schema would be queued and skipped at every tick; asking for it by hand says why.
        named.slug ~ '^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$'
        and length(named.slug) <= 49
        and not exists (
            select from kiket_analytics.leases as lease
            where lease.schema_name = 'analytics_org_' || replace(named.slug, '-', '_')
                and lease.organization_id is distinct from named.id
        ) as can_have_schema
    from public.organizations as named
    where named.id = settings.organization_id
    offset 0
) as organization
left join unnest(%(plans)s::text[], %(hours)s::integer[]) as plan (name, hours) on plan.name = organization.plan
cross join lateral (select coalesce(settings.refresh_interval_hours, plan.hours)) as cadence (hours)
where settings.enabled
    and settings.quarantined_at is null
    and coalesce(
        (settings.last_run_at at time zone 'UTC')
        + make_interval(hours => coalesce(settings.refresh_interval_hours, settings.plan_hours)),
        '-infinity'
    ) <= coalesce(%(now)s, now()) at time zone 'UTC'
    and organization.can_have_schema
    and cadence.hours is not null
    and (
        settings.last_run_at is null
        or settings.last_run_at + make_interval(hours => cadence.hours) <= coalesce(%(now)s, now())
    )
