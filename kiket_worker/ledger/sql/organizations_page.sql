-- One page of organisations by slug, with what of their runs is newest. Parameters: those of `standing`, which is put
-- before this statement; organization_id, null for all; after, the last slug of the page before, null for the first page;
-- page_size. Reads only. To be planned for the values that are given, not prepared.
select
    standing.*,
    success.run_id as last_success_run_id,
    success.finished_at as last_success_at,
    coalesce(success.finished_at + make_interval(hours => standing.interval_hours) < now(), false) as is_outdated,
    active.run_id as active_run_id
from standing
left join lateral (
    select run.run_id, run.finished_at
    from kiket_analytics.runs as run
    where run.organization_id = standing.organization_id and run.status = 'succeeded'
    order by run.queued_at desc, run.run_id desc
    limit 1
) as success on true
left join lateral (
    -- The one that is executed, or else the one that waits.
    select run.run_id
    from kiket_analytics.runs as run
    where run.organization_id = standing.organization_id
        and run.status in ('queued', 'running', 'built', 'archived')
    order by run.status = 'queued'
    limit 1
) as active on true
where (%(organization_id)s::bigint is null or standing.organization_id = %(organization_id)s)
    and (%(after)s::text is null or standing.slug > %(after)s)
order by standing.slug
limit %(page_size)s
