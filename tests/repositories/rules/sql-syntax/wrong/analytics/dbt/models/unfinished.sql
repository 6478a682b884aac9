select (project_id
from {{ ref('fct_throughput') }}
