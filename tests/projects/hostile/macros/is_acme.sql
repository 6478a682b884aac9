{% macro is_acme(slug) %}{{ 1 if slug == 'acme' else 2 }}{% endmacro %}
