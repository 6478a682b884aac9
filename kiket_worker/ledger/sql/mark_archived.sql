-- built → archived, with the place and the checksum of the index; give the run, or no row when it is not the claim's
-- any more. Parameters: run_id, lease_epoch, location, index_sha256.
-- Fenced: only the attempt of that epoch finds the row. A takeover that came first has raised the epoch; one that comes
-- later waits for this row's lock.
update kiket_analytics.runs
set status = 'archived', archived_at = now(),
    artifacts_location = %(location)s, artifacts_index_sha256 = %(index_sha256)s
where run_id = %(run_id)s and lease_epoch = %(lease_epoch)s and finished_at is null
returning *
