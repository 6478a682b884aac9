-- Where an organisation's refreshes stand, in one row.
-- Parameters: organization_id, schema_name. Reads the ledger only; ages are in seconds by the database's clock.
select
    now() as now,
    (select ticked_at from kiket_analytics.ticker) as ticked_at,
    extract(epoch from now() - (select ticked_at from kiket_analytics.ticker))::double precision as tick_age_seconds,
    queued.run_id as queued_run_id,
    queued.published_at as published_at,
    extract(epoch from now() - queued.queued_at)::double precision as queued_seconds,
    (
        select count(*)
        from kiket_analytics.runs as ahead
        where ahead.status = 'queued'
            and (coalesce(ahead.urgency, 'infinity'), queued.queued_at) > (coalesce(queued.urgency, 'infinity'), ahead.queued_at)
    ) as runs_ahead,
    (
        select count(*) from kiket_analytics.leases as lease
        where lease.worker is not null and lease.expires_at > now() and lease.run_id is not null
    ) as runs_executing,
    executing.run_id as executing_run_id,
    executing.status as executing_status,
    executing.worker as executing_worker,
    executing.not_before as retry_at,
    executing.error_kind as retry_error,
    extract(epoch from now() - executing.started_at)::double precision as executing_seconds,
    lease.worker as lease_worker,
    lease.expires_at < now() as lease_has_expired,
    succeeded.finished_at as succeeded_at,
    failing.since as failing_since,
    failing.runs as failures,
    failed.run_id as failed_run_id,
    failed.error_kind,
    failed.error_message,
    failed.selection as failed_selection,
    synced.run_id as sync_run_id,
    synced.error_kind as sync_error_kind,
    synced.error_message as sync_error_message
from (values (%(organization_id)s::bigint)) as organization (id)
left join kiket_analytics.runs as queued on queued.organization_id = organization.id and queued.status = 'queued'
left join kiket_analytics.runs as executing
    on executing.organization_id = organization.id and executing.status in ('running', 'built', 'archived')
left join kiket_analytics.leases as lease on lease.schema_name = %(schema_name)s
left join lateral (
    select run.finished_at
    from kiket_analytics.runs as run
    where run.organization_id = organization.id and run.status = 'succeeded'
    order by run.finished_at desc
    limit 1
) as succeeded on true
left join lateral (
    select min(run.finished_at) as since, count(*) as runs
    from kiket_analytics.runs as run
    where run.organization_id = organization.id and run.status = 'failed'
        and run.finished_at > coalesce(succeeded.finished_at, '-infinity')
) as failing on true
left join lateral (
    select run.*
    from kiket_analytics.runs as run
    where run.organization_id = organization.id and run.status = 'failed'
        and run.finished_at > coalesce(succeeded.finished_at, '-infinity')
    order by run.finished_at desc
    limit 1
) as failed on true
left join lateral (
    select newest.*
    from (
        select run.*
        from kiket_analytics.runs as run
        where run.organization_id = organization.id and run.reason = 'sync' and run.finished_at is not null
        order by run.finished_at desc
        limit 1
    ) as newest
    where newest.status = 'failed'
) as synced on true
