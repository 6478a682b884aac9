{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='week_begins_on',
    indexes=[{'columns': ['week_begins_on']}],
) }}

select
    project_id,
    {{ week_of('completed_on') }} as week_begins_on,
    sum(issues_completed)::bigint as issues_completed
from {{ ref('fct_throughput') }}
{% if is_incremental() %}
where completed_on >= (select max(week_begins_on) from {{ this }})
{% endif %}
group by 1, 2
