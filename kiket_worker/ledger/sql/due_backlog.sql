-- How many runs wait for a worker that could begin with them now: what more workers would shorten. Due organisations are
-- among them since the last tick, and so are requests, retries whose time has come, and the runs of crashed workers.
-- Takes no parameters, and reads what `kiket_metrics` may read: KEDA asks it (deploy/kubernetes), and doctor. Reads only, by
-- the index of runs that have not ended.
select count(*) as waiting
from kiket_analytics.runs as run
left join kiket_analytics.leases as lease on lease.run_id = run.run_id
where run.status in ('queued', 'running', 'built', 'archived')
    and case
        when run.status <> 'queued' and lease.run_id is null then coalesce(run.not_before, '-infinity') <= now()
        when run.status <> 'queued' then lease.expires_at <= now()
        -- One more of its organisation waits behind the one that goes on.
        else not exists (
            select from kiket_analytics.runs as other
            where other.organization_id = run.organization_id and other.status in ('running', 'built', 'archived')
        )
    end
