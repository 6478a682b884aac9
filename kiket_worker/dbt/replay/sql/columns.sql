-- What dbt-postgres asks of a relation's columns (its macro get_columns_in_relation), answered by the catalog itself.
-- Parameters: relation, a quoted name. dbt asks information_schema.columns, which takes Postgres ten times as long to plan
-- and to answer; the expressions are those of that view (src/backend/catalog/information_schema.sql).
select
    attribute.attname::text as column_name,
    case
        when base.typelem <> 0 and base.typlen = -1 then 'ARRAY'
        when base.typnamespace = 'pg_catalog'::regnamespace then format_type(base.oid, null)
        else 'USER-DEFINED'
    end as data_type,
    information_schema._pg_char_max_length(base.oid, typmod.of_base) as character_maximum_length,
    information_schema._pg_numeric_precision(base.oid, typmod.of_base) as numeric_precision,
    information_schema._pg_numeric_scale(base.oid, typmod.of_base) as numeric_scale
from pg_catalog.pg_attribute as attribute
join pg_catalog.pg_type as declared on declared.oid = attribute.atttypid
join pg_catalog.pg_type as base
    on base.oid = case when declared.typtype = 'd' then declared.typbasetype else declared.oid end
cross join lateral (
    select case when declared.typtype = 'd' then declared.typtypmod else attribute.atttypmod end
) as typmod (of_base)
where attribute.attrelid = to_regclass(%(relation)s) and attribute.attnum > 0 and not attribute.attisdropped
order by attribute.attnum
