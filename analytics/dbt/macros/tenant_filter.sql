{% macro tenant_filter(column) -%}
    {{ column }} = {{ var('organization_id') }}
{%- endmacro %}
