{% macro current_day() -%}
    (now() at time zone 'utc')::date
{%- endmacro %}
