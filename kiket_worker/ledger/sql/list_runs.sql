-- Runs, newest first. Parameters: organization_id and status, each null for any; run_limit. Reads only.
select * from kiket_analytics.runs
where (%(organization_id)s::bigint is null or organization_id = %(organization_id)s)
    and (%(status)s::text is null or status = %(status)s)
order by queued_at desc, run_id desc
limit %(run_limit)s
