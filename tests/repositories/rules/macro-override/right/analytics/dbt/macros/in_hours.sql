{% macro in_hours(column) %}({{ column }} * 24){% endmacro %}
