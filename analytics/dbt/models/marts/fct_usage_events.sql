-- Whole days are replaced, hence the key is the day alone: project_id is null in many rows, and a key with a null
-- matches nothing and would leave the old row beside the new one. A new column asks for --full-refresh
-- (on_schema_change), as it would be null for the days before.
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='recorded_on',
    on_schema_change='fail',
    indexes=[{'columns': ['recorded_on']}, {'columns': ['project_id', 'recorded_on']}],
) }}

{%- set lookback_days = 7 %}

with usage_events as (

    select
        project_id,
        (recorded_at at time zone 'utc')::date as recorded_on,
        metric,
        quantity
    from {{ ref('stg_usage_events') }}
    {% if is_incremental() %}
    -- A day in the future, written by a clock that was wrong, must not hide the days before it.
    where recorded_at >= coalesce(
        (
            select (max(recorded_on) - {{ lookback_days }})::timestamp at time zone 'utc'
            from {{ this }}
            where recorded_on <= {{ current_day() }}
        ),
        '-infinity'
    )
    {% endif %}

)

select
    project_id,
    recorded_on,
    metric,
    sum(quantity) as total_quantity
from usage_events
group by project_id, recorded_on, metric
