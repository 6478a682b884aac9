-- Runs that have artifacts, newest first. Parameters, each null for any: run_id; organization_id; start_at and end_at, by
-- the time at which the run was queued, end_at not included; before_at and before_id, the last run of the page before.
-- And page_size. Reads only.
select
    run_id,
    organization_slug,
    status,
    coalesce(archived_at, finished_at) as archived_at,
    artifacts_location as location,
    artifacts_index_sha256 as index_sha256,
    pruned_at,
    queued_at
from kiket_analytics.runs
left join kiket_analytics.pruned_artifacts using (run_id)
where artifacts_location is not null
    and (%(run_id)s::uuid is null or run_id = %(run_id)s)
    and (%(organization_id)s::bigint is null or organization_id = %(organization_id)s)
    and (%(start_at)s::timestamptz is null or queued_at >= %(start_at)s)
    and (%(end_at)s::timestamptz is null or queued_at < %(end_at)s)
    and (%(before_at)s::timestamptz is null or (queued_at, run_id) < (%(before_at)s, %(before_id)s))
order by queued_at desc, run_id desc
limit %(page_size)s
