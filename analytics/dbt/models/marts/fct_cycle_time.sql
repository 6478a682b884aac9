-- Issues are re-opened and their completion times corrected, which changes any past day, and the issue no longer says
-- which: every day is computed anew, and the strategy writes those that differ (macros/incremental_differences.sql).
{{ config(
    materialized='incremental',
    incremental_strategy='differences',
    on_schema_change='fail',
    indexes=[{'columns': ['project_id', 'completed_on'], 'unique': true}, {'columns': ['completed_on']}],
) }}

with completed_issues as (

    select
        project_id,
        (completed_at at time zone 'utc')::date as completed_on,
        extract(epoch from completed_at - coalesce(started_at, created_at)) as cycle_seconds
    from {{ ref('stg_issues') }}
    where
        status = 'done'
        and issue_type <> 'epic'
        and completed_at is not null

)

select
    project_id,
    completed_on,
    round(avg(cycle_seconds) / 86400, 4)::numeric(12, 4) as avg_cycle_days
from completed_issues
group by project_id, completed_on
