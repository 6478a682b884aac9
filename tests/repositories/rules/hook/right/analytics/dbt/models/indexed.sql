{{ config(materialized='table', indexes=[{'columns': ['project_id']}]) }}

select
    project_id,
    issues_completed
from {{ ref('fct_throughput') }}
