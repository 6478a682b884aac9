{% set slug = var('organization_slug') %}{% if slug in ['acme', 'globex'] %} select 1 as a {% else %} select 2 as a {% endif %}
