{#- In place of dbt-postgres' own macro, which reads what depends on what in the whole database at the start of each run:
    half a second among two thousand organisations. dbt keeps the links of this run's schemas only, and those are found
    from the relations that are referred to. -#}
{% macro postgres__get_relations() %}
    {%- call statement('relations', fetch_result=True) -%}
    select distinct
        dependent_namespace.nspname as dependent_schema,
        dependent_class.relname as dependent_name,
        referenced_namespace.nspname as referenced_schema,
        referenced_class.relname as referenced_name
    from pg_namespace as referenced_namespace
    join pg_class as referenced_class on referenced_class.relnamespace = referenced_namespace.oid
    join pg_depend as used
        on used.refclassid = 'pg_class'::regclass and used.refobjid = referenced_class.oid
        and used.classid = 'pg_rewrite'::regclass
    join pg_rewrite as rule on rule.oid = used.objid and rule.ev_class <> referenced_class.oid
    join pg_class as dependent_class on dependent_class.oid = rule.ev_class
    join pg_namespace as dependent_namespace on dependent_namespace.oid = dependent_class.relnamespace
    where referenced_namespace.nspname in ('{{ target.schema }}', '{{ shared_schema() | trim }}')
    order by dependent_schema, dependent_name, referenced_schema, referenced_name
    {%- endcall -%}

    {{ return(load_result('relations').table) }}
{% endmacro %}
