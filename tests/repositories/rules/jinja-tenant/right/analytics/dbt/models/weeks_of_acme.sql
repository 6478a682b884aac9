select project_id, issues_completed, '{{ var('organization_slug') }}' as organization
from {{ ref('fct_throughput') }}
