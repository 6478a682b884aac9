{#- dbt asks this for every node while it parses, whatever is selected: hence the check of the vars is here. Only
    models marked `schema: shared` leave the tenant's schema; any other custom schema (that of stored test failures,
    for example) is ignored, because it would lie outside. -#}
{% macro generate_schema_name(custom_schema_name=none, node=none) %}
    {%- do require_organization() -%}
    {%- if custom_schema_name == 'shared' and node.resource_type == 'model' -%}
        {{ shared_schema() }}
    {%- else -%}
        {{ organization_schema() }}
    {%- endif -%}
{% endmacro %}


{% macro organization_schema() -%}
    analytics_org_{{ var('organization_slug') | replace('-', '_') }}
{%- endmacro %}


{% macro shared_schema() -%}
    {{ var('shared_schema', env_var('DBT_SHARED_SCHEMA', 'analytics_shared')) }}
{%- endmacro %}
