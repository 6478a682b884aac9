-- Prolong a held lease; give whether the run's end was asked for, or no row when the lease is somebody else's by now.
-- Parameters: schema_name, epoch, ttl_seconds. Fenced: a takeover waits for this row or has raised its epoch before.
update kiket_analytics.leases as lease
set expires_at = now() + make_interval(secs => %(ttl_seconds)s)
where lease.schema_name = %(schema_name)s and lease.epoch = %(epoch)s and lease.worker is not null
returning exists (
    select from kiket_analytics.runs as run
    where run.run_id = lease.run_id and run.cancel_requested_at is not null
) as cancel_requested
