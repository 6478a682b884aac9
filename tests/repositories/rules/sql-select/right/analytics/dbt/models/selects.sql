with kept as (
    select project_id from {{ ref('fct_throughput') }}
)

select project_id from kept
