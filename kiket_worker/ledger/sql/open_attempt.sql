-- Write down the attempt that a run has just begun. Parameters: run_id.
-- After `begin_attempt`, which has closed the one before: the unique index on open attempts allows one.
insert into kiket_analytics.attempts (run_id, lease_epoch, attempt, worker, started_at)
select run_id, lease_epoch, attempt, worker, started_at from kiket_analytics.runs where run_id = %(run_id)s
