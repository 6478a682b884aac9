{% macro tenant_filter(column) %}true{% endmacro %}
