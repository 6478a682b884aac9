{% if var('organization_id') == 1 %} select 1 as a {% else %} select 2 as a {% endif %}
