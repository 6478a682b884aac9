-- How all organisations stand, in one row: by plan, and the latest ones. Read once in a while for everybody.
-- Parameters: those of `standing`, which is put before this statement; organizations_limit. Reads only. One in quarantine
-- is not late: it is not refreshed until somebody releases it.
, listed as materialized (
    select
        slug, name, plan, enabled, quarantine_reason, last_run_at, due_at, interval_hours,
        case when quarantine_reason is null then lag_seconds end as lag_seconds
    from standing
    where has_settings
)
select
    (
        select coalesce(jsonb_agg(to_jsonb(by_plan) order by plan), '[]')
        from (
            select
                plan,
                count(*) as organizations,
                count(*) filter (where enabled) as enabled,
                count(*) filter (where enabled and quarantine_reason is not null) as quarantined,
                count(*) filter (where enabled and last_run_at is null) as never_refreshed,
                count(*) filter (where lag_seconds > 0) as late,
                coalesce(max(lag_seconds), 0) as lag_seconds
            from listed
            group by plan
        ) as by_plan
    ) as plans,
    (
        select coalesce(jsonb_agg(to_jsonb(latest) order by latest.lag_seconds desc, latest.slug), '[]')
        from (
            select slug, name, plan, interval_hours, last_run_at, due_at, lag_seconds
            from listed
            where lag_seconds > 0
            order by lag_seconds desc, slug
            limit %(organizations_limit)s
        ) as latest
    ) as latest
