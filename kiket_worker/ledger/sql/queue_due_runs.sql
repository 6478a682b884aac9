-- Queue a run for each due organisation; give each run's id, organisation and slug.
-- Parameters: now; plans and hours, two arrays that pair each plan with its default interval.
-- Run after the caller has locked the ticker's row: this statement then sees every run that another ticker queued, so
-- nothing is queued twice; a request that slips in between meets the unique index and stays the only queued run.
insert into kiket_analytics.runs (organization_id, organization_slug, reason, urgency, queued_at)
select
    organization.id,
    organization.slug,
    'scheduled',
    coalesce(
        extract(epoch from %(now)s - settings.last_run_at) / (3600.0 * cadence.hours) - 1,
        'infinity'
    ),
    %(now)s
from kiket_analytics.analytics_settings as settings
join public.organizations as organization on organization.id = settings.organization_id
left join unnest(%(plans)s::text[], %(hours)s::integer[]) as plan (name, hours) on plan.name = organization.plan
cross join lateral (select coalesce(settings.refresh_interval_hours, plan.hours)) as cadence (hours)
where settings.enabled
    and settings.quarantined_at is null
    and cadence.hours is not null
    and (settings.last_run_at is null or settings.last_run_at + make_interval(hours => cadence.hours) <= %(now)s)
    -- What cannot have a schema would be queued and skipped at every tick; asking for it by hand says why.
    and organization.slug ~ '^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$'
    and length(organization.slug) <= 49
    and not exists (
        select from kiket_analytics.leases as lease
        where lease.schema_name = 'analytics_org_' || replace(organization.slug, '-', '_')
            and lease.organization_id is distinct from organization.id
    )
    and not exists (
        select from kiket_analytics.runs as run
        where run.organization_id = settings.organization_id
            and run.status in ('queued', 'running', 'built', 'archived')
    )
on conflict (organization_id) where status = 'queued' do nothing
returning run_id, organization_slug
