-- The runs whose message has to be published: never published, published so long ago that the message may be lost, due
-- for a retry, or held by a worker whose lease has expired. Most urgent first; requests before the schedule.
-- Parameters: republish_after_seconds, run_limit; organization_id and run_ids, each null for all: planned for what is
-- given, it looks at the runs that are named and at no other. Reads only; `for update of run skip locked` after it locks
-- the rows that it gives, and skips those that another ticker is publishing.
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
    and (%(organization_id)s::bigint is null or run.organization_id = %(organization_id)s)
    and (%(run_ids)s::uuid[] is null or run.run_id = any(%(run_ids)s))
    and waiting.since <= now()
    and (
        -- Once for each such moment, and again when that message is lost as well.
        coalesce(run.published_at, '-infinity')
            < greatest(waiting.since, now() - make_interval(secs => %(republish_after_seconds)s))
        -- A run that had begun has no other message, and a worker that is cut off from Postgres may hold this one. So
        -- again after 5 seconds, 10, 20 and so on, until a worker takes it that can.
        or now() - run.published_at > case
            when isfinite(waiting.since) then greatest(interval '5 seconds', run.published_at - waiting.since)
        end
    )
order by run.urgency desc nulls first, run.queued_at, run.run_id
limit %(run_limit)s
