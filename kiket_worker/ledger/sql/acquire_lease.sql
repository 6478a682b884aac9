-- Take the lease of a schema for a run, or for shared models with no run; give the new epoch, or no row when somebody
-- else holds it or the schema is another organisation's.
-- Parameters: schema_name, organization_id, run_id, worker, ttl_seconds. Two workers meet at the primary key: the later
-- one waits for the first's transaction and then finds the lease held.
-- Expiry is judged at the transaction's start, as by who ended the older sessions; the new time begins to run now, since
-- waiting and ending sessions may have taken longer than a lease lasts.
insert into kiket_analytics.leases as lease (schema_name, organization_id, run_id, worker, expires_at)
values (
    %(schema_name)s, %(organization_id)s, %(run_id)s, %(worker)s,
    clock_timestamp() + make_interval(secs => %(ttl_seconds)s)
)
on conflict (schema_name) do update
set
    epoch = lease.epoch + 1,
    run_id = excluded.run_id,
    worker = excluded.worker,
    acquired_at = now(),
    expires_at = excluded.expires_at
where (lease.worker is null or lease.expires_at < now())
    and lease.organization_id is not distinct from excluded.organization_id
returning lease.epoch
