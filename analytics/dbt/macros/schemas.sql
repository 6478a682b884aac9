{#- dbt asks this for every node while it parses, whatever is selected: hence the check of the vars is here. A worker
    has checked them, and names the schema by DBT_ORGANIZATION_SCHEMA; then they are only printed. Only
    models marked `schema: shared` leave the tenant's schema; any other custom schema (that of stored test failures,
    for example) is ignored, because it would lie outside. With the target `shared` there is no tenant, and everything
    is in the shared schema. -#}
{% macro generate_schema_name(custom_schema_name=none, node=none) %}
    {%- if target.name == 'shared' -%}
        {{ shared_schema() }}
    {%- else -%}
        {%- if not env_var('DBT_ORGANIZATION_SCHEMA', '') -%}
            {%- do require_organization() -%}
        {%- endif -%}
        {%- if custom_schema_name == 'shared' and node.resource_type == 'model' -%}
            {{ shared_schema() }}
        {%- else -%}
            {{ organization_schema() }}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}


{#- Run before the first statement of any node (dbt_project.yml, on-run-start): stops dbt if a node has got a schema that
    is not this run's, however it came by it. The role would be refused by the database; this says it by name. -#}
{% macro check_schemas() %}
    {%- if execute -%}
        {%- set own = (shared_schema() if target.name == 'shared' else organization_schema()) | trim -%}
        {%- for node in graph.nodes.values() if node.resource_type in ['model', 'seed', 'snapshot', 'test'] -%}
            {%- if node.schema != own and not (node.schema == shared_schema() | trim and 'shared' in node.tags) -%}
                {%- do exceptions.raise_compiler_error(
                    node.unique_id ~ " would be built in schema " ~ node.schema ~ ", and only " ~ own
                    ~ " belongs to this run"
                ) -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{% endmacro %}


{% macro organization_schema() -%}
    {{ target.schema }}
{%- endmacro %}


{% macro shared_schema() -%}
    {{ var('shared_schema', env_var('DBT_SHARED_SCHEMA', 'analytics_shared')) }}
{%- endmacro %}
