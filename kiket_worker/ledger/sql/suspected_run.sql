-- One row if a run that could be claimed has crashed a worker, or its lease expired without a word, which is the same.
-- Parameters: run_id. Only looks; the claim that follows decides under the run's lock.
select run.run_id
from kiket_analytics.runs as run
left join kiket_analytics.leases as lease on lease.run_id = run.run_id
where run.run_id = %(run_id)s
    and run.finished_at is null
    and ((lease.run_id is null and run.crashes > 0) or lease.expires_at < now())
