-- End a run that no worker has. Parameters: run_id.
-- The caller has locked the run's row: whoever would claim it waits, and then finds it ended.
update kiket_analytics.runs
set status = 'cancelled', finished_at = now(), cancel_requested_at = now()
where run_id = %(run_id)s
