-- What workers have done lately, what the cadences of all organisations ask of them, and what connections there are.
-- Parameters: those of `standing`, which is put before this statement. Reads only. Attempts are looked up by their runs'
-- ids, which are in the order of time.
, recent as materialized (
    select worker, outcome, started_at, finished_at
    from kiket_analytics.attempts
    order by run_id desc
    limit 500
)
select
    (
        select count(distinct worker) from recent where coalesce(finished_at, now()) > now() - interval '15 minutes'
    ) as workers,
    (
        select avg(extract(epoch from finished_at - started_at))::double precision
        from recent
        where outcome = 'succeeded'
    ) as seconds_per_run,
    (
        select coalesce(sum(1.0 / interval_hours), 0)::double precision
        from standing
        where has_settings and due_at is not null and quarantine_reason is null
    ) as runs_per_hour,
    (
        select coalesce(extract(epoch from now() - min(queued_at)), 0)::double precision
        from kiket_analytics.runs
        where status = 'queued'
    ) as oldest_waiting_seconds,
    current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
    - coalesce(current_setting('reserved_connections', true)::integer, 0) as server_connections,
    (select datconnlimit from pg_database where datname = current_database()) as database_connections,
    (select rolconnlimit from pg_roles where rolname = current_user) as login_connections,
    (
        select count(*)
        from pg_stat_activity
        where usename is not null and usename <> current_user and usename !~ '^analytics_(org|ro)_'
    ) as others
