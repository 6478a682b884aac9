{% set id = var('organization_id') %}
select {{ 'true' if id > 100 else 'false' }} as a
