select
    project_id,
    issue_completed
from {{ ref('fct_throughput') }}
