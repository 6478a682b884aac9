-- The attempts at a run, the first first. Parameters: run_id. Reads only.
select attempt, worker, started_at, finished_at, outcome, error_kind, error_message
from kiket_analytics.attempts
where run_id = %(run_id)s
order by lease_epoch
