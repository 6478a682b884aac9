{% macro generate_schema_name(custom_schema_name=none, node=none) %}{{ target.schema }}{% endmacro %}
