-- What waits, what goes on and what stands still, in one row.
-- Parameters: those of `due`, which is put before this statement. Reads only, and is asked every few seconds at most.
-- Due are organisations that nobody is refreshing; one that was never refreshed is due since its settings were changed.
, overdue as materialized (
    select
        due.plan,
        extract(epoch from now() - coalesce(due.due_at, due.updated_at))::double precision as seconds,
        not exists (
            select from kiket_analytics.runs as run
            where run.organization_id = due.organization_id and run.status in ('running', 'built', 'archived')
        ) as waits
    from due
)
select
    (select count(*) from overdue where waits) as due,
    (select coalesce(max(seconds), 0) from overdue where waits) as oldest_due_seconds,
    (
        select coalesce(jsonb_object_agg(plan, seconds), '{}')
        from (select plan, max(seconds) as seconds from overdue group by plan) as behind
    ) as lag_seconds,
    (
        select coalesce(jsonb_object_agg(status, runs), '{}')
        from (
            select status, count(*) as runs
            from kiket_analytics.runs
            where status in ('queued', 'running', 'built', 'archived')
            group by status
        ) as active
    ) as runs,
    (select count(*) from kiket_analytics.leases where worker is not null and expires_at > now()) as leases_held,
    (select count(*) from kiket_analytics.leases where worker is not null and expires_at <= now()) as leases_expired,
    (
        select count(*) from kiket_analytics.analytics_settings where enabled and quarantined_at is not null
    ) as quarantined,
    (
        select extract(epoch from now() - ticked_at)::double precision from kiket_analytics.ticker
    ) as tick_age_seconds
