-- Every organisation with its last success, and how it stands in one word. Parameters: those of `standing`, after which
-- this is put, as the table `freshness`, before statements. Reads only.
-- Outdated is one whose last success is longer ago than its interval, whether it was refreshed since then or not; one
-- that has none counts from when its settings were changed.
, freshness as (
    select
        standing.*,
        success.run_id as last_success_run_id,
        success.finished_at as last_success_at,
        outdated.seconds as outdated_seconds,
        -- What keeps it from being refreshed counts more than how old it is.
        case
            when standing.quarantine_reason is not null then 'quarantined'
            when not standing.enabled then 'paused'
            when standing.due_at is null then 'no_schema'
            when success.finished_at is null then 'never'
            when standing.lag_seconds > 0 then 'late'
            -- It was refreshed when it was due, and that came to nothing.
            when outdated.seconds > 0 then 'failing'
            else 'fresh'
        end as state
    from standing
    left join lateral (
        select run.run_id, run.finished_at
        from kiket_analytics.runs as run
        where run.organization_id = standing.organization_id and run.status = 'succeeded'
        order by run.queued_at desc, run.run_id desc
        limit 1
    ) as success on true
    cross join lateral (
        select case
            when standing.due_at is not null then extract(epoch from greatest(
                now() - coalesce(
                    success.finished_at + make_interval(hours => standing.interval_hours), standing.updated_at
                ),
                interval '0'
            ))::double precision
        end
    ) as outdated (seconds)
)
