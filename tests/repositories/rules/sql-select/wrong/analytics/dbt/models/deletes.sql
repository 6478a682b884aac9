with gone as (
    delete from {{ ref('fct_throughput') }} returning project_id
)

select project_id from gone
