-- How all organisations stand, in one row: by plan, and the least fresh ones. Read once in a while for everybody.
-- Parameters: those of `freshness`, which is put before this statement; organizations_limit. Reads only. One in
-- quarantine is not late: it is not refreshed until somebody releases it. But it is no fresher for that.
, listed as materialized (
    select
        slug, name, plan, enabled, state, last_success_at, interval_hours, outdated_seconds, last_run_at,
        case when quarantine_reason is null then lag_seconds end as lag_seconds
    from freshness
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
                count(*) filter (where enabled and state = 'quarantined') as quarantined,
                count(*) filter (where enabled and last_run_at is null) as never_refreshed,
                count(*) filter (where lag_seconds > 0) as late,
                count(*) filter (where state = 'failing') as failing,
                coalesce(max(lag_seconds), 0) as lag_seconds
            from listed
            group by plan
        ) as by_plan
    ) as plans,
    (
        select coalesce(jsonb_agg(to_jsonb(outdated) order by outdated.outdated_seconds desc, outdated.slug), '[]')
        from (
            select slug, name, plan, state, interval_hours, last_success_at, outdated_seconds
            from listed
            where outdated_seconds > 0
            order by outdated_seconds desc, slug
            limit %(organizations_limit)s
        ) as outdated
    ) as outdated
