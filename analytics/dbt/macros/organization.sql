{#- The only place that looks into the tenant's vars. It prints nothing, so that everything else may print them blindly. -#}
{% macro require_organization() %}
    {%- set id = var('organization_id', none) -%}
    {%- set slug = var('organization_slug', none) -%}
    {%- set schema = var('organization_schema', none) -%}
    {%- set remedy = "Name the organisation, for example: --vars '{organization_id: 42, organization_slug: \"acme\"}'" -%}

    {%- if id is none -%}
        {%- do exceptions.raise_compiler_error("organization_id is missing. " ~ remedy) -%}
    {%- elif id is not integer or id < 1 -%}
        {%- do exceptions.raise_compiler_error(
            "organization_id is " ~ (id | tojson) ~ ", but must be a positive integer. " ~ remedy
        ) -%}
    {%- endif -%}

    {%- if slug is none -%}
        {%- do exceptions.raise_compiler_error("organization_slug is missing. " ~ remedy) -%}
    {%- elif slug is not string -%}
        {#- YAML reads an unquoted 1_000 or 0x1f as a number, which would print as another organisation's slug. -#}
        {%- do exceptions.raise_compiler_error(
            "organization_slug is " ~ slug ~ ", which YAML does not read as text: put it in double quotes. " ~ remedy
        ) -%}
    {%- elif slug | length > 49 or not modules.re.fullmatch('[a-z0-9]([a-z0-9_-]*[a-z0-9])?', slug) -%}
        {%- do exceptions.raise_compiler_error(
            "organization_slug is " ~ (slug | tojson) ~ ", which cannot be a schema's name. A slug has 1 to 49 characters: "
            ~ "small letters a-z and digits, with hyphens and underscores only between them. " ~ remedy
        ) -%}
    {%- endif -%}

    {%- if schema is not none and schema != 'analytics_org_' ~ (slug | replace('-', '_')) -%}
        {%- do exceptions.raise_compiler_error(
            "organization_schema is " ~ (schema | tojson) ~ ", but the schema of organization_slug " ~ (slug | tojson)
            ~ " is analytics_org_" ~ (slug | replace('-', '_')) ~ ". Leave organization_schema out, or pass that name."
        ) -%}
    {%- endif -%}
{% endmacro %}
