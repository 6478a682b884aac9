{{ config(materialized='materialized_view') }}

select
    project_id,
    issues_completed
from {{ ref('fct_throughput') }}
