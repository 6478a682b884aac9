-- The runs whose message has to be published: never published, published so long ago that the message may be lost, due
-- for a retry, or held by a worker whose lease has expired. Most urgent first; requests before the schedule.
-- Parameters: republish_after_seconds, run_limit. Locks the rows that it gives until the caller's transaction ends, and
-- skips those that another ticker is publishing.
select run.run_id, run.organization_slug, run.reason
from kiket_analytics.runs as run
left join kiket_analytics.leases as lease on lease.run_id = run.run_id
cross join lateral (
    -- The moment since which a worker could have begun.
    select case
        when run.status = 'queued' then '-infinity'
        when lease.run_id is null then coalesce(run.not_before, '-infinity')
        else lease.expires_at
    end
) as waiting (since)
where run.status in ('queued', 'running', 'built', 'archived')
    and waiting.since <= now()
    -- Once for each such moment, and again when that message is lost as well.
    and coalesce(run.published_at, '-infinity')
        < greatest(waiting.since, now() - make_interval(secs => %(republish_after_seconds)s))
order by run.urgency desc nulls first, run.queued_at, run.run_id
limit %(run_limit)s
for update of run skip locked
