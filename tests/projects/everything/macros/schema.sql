{% macro generate_schema_name(custom_schema_name=none, node=none) %}{{ target.schema }}{% endmacro %}

{% macro audit_log() %}{{ api.Relation.create(target.database, target.schema, 'audit_log') }}{% endmacro %}

{% macro mine(column) %}{{ column }} = {{ var('organization_id') }}{% endmacro %}

{% macro statuses() %}
    {%- if execute -%}
        {%- set found = run_query("select distinct status from " ~ ref('stg_issues') ~ " order by 1") -%}
        {{ return(found.columns[0].values() | list) }}
    {%- endif -%}
    {{ return([]) }}
{% endmacro %}
