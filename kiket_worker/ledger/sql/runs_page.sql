-- One page of runs, newest first. Parameters, each null for any: organization_id; status; since, by the time at which the
-- run was queued; after_at and after_id, the last run of the page before. And page_size. Reads only.
-- To be planned for the values that are given, not prepared: which index serves depends on them.
select *
from kiket_analytics.runs
where (%(organization_id)s::bigint is null or organization_id = %(organization_id)s)
    and (%(status)s::text is null or status = %(status)s)
    and (%(since)s::timestamptz is null or queued_at >= %(since)s)
    and (%(after_at)s::timestamptz is null or (queued_at, run_id) < (%(after_at)s, %(after_id)s::uuid))
order by queued_at desc, run_id desc
limit %(page_size)s
