-- Let a run wait for another attempt, and have it published then; give the run, or no row when it is not the claim's
-- any more. Parameters: run_id, lease_epoch, delay_seconds.
-- Fenced: only the attempt of that epoch finds the row. A takeover that came first has raised the epoch; one that comes
-- later waits for this row's lock.
update kiket_analytics.runs
set not_before = now() + make_interval(secs => %(delay_seconds)s), published_at = null
where run_id = %(run_id)s and lease_epoch = %(lease_epoch)s and finished_at is null
returning *
