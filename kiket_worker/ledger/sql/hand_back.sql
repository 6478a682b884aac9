-- Let a run be published at once for another worker, its attempt not counted; give the run, or no row when it is not
-- the claim's any more. Parameters: run_id, lease_epoch.
-- Fenced: only the attempt of that epoch finds the row. A takeover that came first has raised the epoch; one that comes
-- later waits for this row's lock.
update kiket_analytics.runs
set handed_back = true, not_before = now(), published_at = null
where run_id = %(run_id)s and lease_epoch = %(lease_epoch)s and finished_at is null
returning *
