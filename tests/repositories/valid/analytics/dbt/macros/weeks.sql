{% macro week_of(column) -%}
    {{ dbt.date_trunc('week', column) }}::date
{%- endmacro %}
