-- Queue a run for each organisation of the table `due` that has no active one; give each run's id and its
-- organisation's slug.
-- Parameters: now; those of `due`, which is put before this statement.
-- Run after the caller has locked the ticker's row: this statement then sees every run that another ticker queued, so
-- nothing is queued twice; a request that slips in between meets the unique index and stays the only queued run.
insert into kiket_analytics.runs (organization_id, organization_slug, reason, urgency, queued_at)
select
    due.organization_id,
    due.slug,
    'scheduled',
    coalesce(
        extract(epoch from %(now)s - due.last_run_at) / (3600.0 * due.interval_hours) - 1,
        'infinity'
    ),
    %(now)s
from due
-- Asked by organisation, of two unique indexes: after an outage everybody is due and everybody waits.
cross join lateral (
    select not exists (
        select from kiket_analytics.runs as run
        where run.organization_id = due.organization_id and run.status = 'queued'
    ) and not exists (
        select from kiket_analytics.runs as run
        where run.organization_id = due.organization_id and run.status in ('running', 'built', 'archived')
    ) as is_missing
    offset 0
) as run
where run.is_missing
on conflict (organization_id) where status = 'queued' do nothing
returning run_id, organization_slug
