-- How all organisations stand, in one row: by plan, and the latest ones. Read once in a while for everybody.
-- Parameters: those of `list_organizations`, which is put before this statement as the table `listed`, so that what is due
-- is decided there; slug is null. And organizations_limit. Reads only.
, standing as materialized (
    select
        listed.slug,
        listed.name,
        listed.plan,
        listed.enabled,
        listed.quarantine_reason,
        listed.last_run_at,
        listed.due_at,
        listed.interval_hours,
        case
            when listed.due_at is not null and listed.quarantine_reason is null then extract(epoch from greatest(
                now() - case when listed.last_run_at is null then settings.updated_at else listed.due_at end,
                interval '0'
            ))::double precision
        end as lag_seconds
    from listed
    join kiket_analytics.analytics_settings as settings on settings.organization_id = listed.organization_id
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
            from standing
            group by plan
        ) as by_plan
    ) as plans,
    (
        select coalesce(jsonb_agg(to_jsonb(latest) order by latest.lag_seconds desc, latest.slug), '[]')
        from (
            select slug, name, plan, interval_hours, last_run_at, due_at, lag_seconds
            from standing
            where lag_seconds > 0
            order by lag_seconds desc, slug
            limit %(organizations_limit)s
        ) as latest
    ) as latest
