-- One page of organisations by slug, with their settings, cadence and freshness. Parameters: plans and hours, two arrays
-- that pair each plan with its default interval; organization_id, null for all; after, the last slug of the page before,
-- null for the first page; page_size. Reads only.
-- To be planned for the values that are given, not prepared. What is due is decided as in `list_organizations`; one that
-- was never refreshed is due since its settings were changed.
select
    organization.id as organization_id,
    organization.slug,
    organization.name,
    organization.plan,
    coalesce(settings.enabled, false) as enabled,
    settings.refresh_interval_hours,
    cadence.hours as interval_hours,
    settings.last_run_at,
    settings.quarantine_reason,
    settings.engine,
    coalesce(settings.docs, false) as docs,
    tenant.can_have_schema,
    due.at as due_at,
    extract(epoch from greatest(
        now() - case when settings.last_run_at is null then settings.updated_at else due.at end, interval '0'
    ))::double precision as lag_seconds,
    success.run_id as last_success_run_id,
    success.finished_at as last_success_at,
    active.run_id as active_run_id
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
) as tenant (can_have_schema)
cross join lateral (
    select case
        when settings.enabled and tenant.can_have_schema and cadence.hours is not null
        then coalesce(settings.last_run_at + make_interval(hours => cadence.hours), now())
    end
) as due (at)
left join lateral (
    select run.run_id, run.finished_at
    from kiket_analytics.runs as run
    where run.organization_id = organization.id and run.status = 'succeeded'
    order by run.queued_at desc, run.run_id desc
    limit 1
) as success on true
left join lateral (
    -- The one that is executed, or else the one that waits.
    select run.run_id
    from kiket_analytics.runs as run
    where run.organization_id = organization.id and run.status in ('queued', 'running', 'built', 'archived')
    order by run.status = 'queued'
    limit 1
) as active on true
where (%(organization_id)s::bigint is null or organization.id = %(organization_id)s)
    and (%(after)s::text is null or organization.slug > %(after)s)
order by organization.slug
limit %(page_size)s
