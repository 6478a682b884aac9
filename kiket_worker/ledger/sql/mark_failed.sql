-- End a run as failed; give the run, or no row when it is not the claim's any more.
-- Parameters: run_id, lease_epoch, error_kind, error_message; location and index_sha256 of its artifacts, null to leave
-- what was recorded.
-- Fenced: only the attempt of that epoch finds the row. A takeover that came first has raised the epoch; one that comes
-- later waits for this row's lock.
update kiket_analytics.runs
set
    status = 'failed',
    finished_at = now(),
    error_kind = %(error_kind)s,
    error_message = %(error_message)s,
    artifacts_location = coalesce(%(location)s, artifacts_location),
    artifacts_index_sha256 = coalesce(%(index_sha256)s, artifacts_index_sha256)
where run_id = %(run_id)s and lease_epoch = %(lease_epoch)s and finished_at is null
returning *
