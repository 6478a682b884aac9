{{ config(materialized='table') }}
select project_id
{% for status in statuses() %}, count(*) filter (where status = '{{ status }}') as "is_{{ status }}"{% endfor %}
from {{ ref('stg_issues') }} group by 1
