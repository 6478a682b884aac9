-- Lock the run of a claim until the caller's transaction ends; give it, or no row when it is not the claim's any more.
-- Parameters: run_id, lease_epoch.
-- Fenced: only the attempt of that epoch finds the row. A takeover that came first has raised the epoch; one that comes
-- later waits for this row's lock.
select * from kiket_analytics.runs
where run_id = %(run_id)s and lease_epoch = %(lease_epoch)s and finished_at is null
for update
