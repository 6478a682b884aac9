select project_id, issues_completed
from {{ ref('fct_throughput') }}
{% if var('organization_slug') == 'acme' %}
where issues_completed > 0
{% endif %}
