select
    project_id,
    avg_cycle_days
from {{ ref('fct_cycle_time') }}
