-- The relations of a schema: what each is called, what kind it is, how much room it takes, what it is defined as, and
-- which relations of the same schema it reads as a view.
-- Parameters: schema_name. Reads catalogs and locks nothing. The definition is everything by which two relations of one
-- name could differ but their rows, their numbers, and the names of their indexes and constraints, which dbt makes of the
-- time, and Postgres of what else there is at the moment.
-- By the dependencies, which have an index: pg_class has none on the schema, and as many rows as there are tenants.
-- OFFSET 0 keeps the planner from looking at other schemas' rows first.
with relation as (
    select pg_class.*
    from pg_catalog.pg_depend
    join pg_catalog.pg_class on pg_class.oid = pg_depend.objid
    where pg_depend.refclassid = 'pg_catalog.pg_namespace'::regclass
        and pg_depend.refobjid = (select oid from pg_catalog.pg_namespace where nspname = %(schema_name)s)
        and pg_depend.classid = 'pg_catalog.pg_class'::regclass
        and relkind in ('r', 'p', 'v', 'm', 'f')
    offset 0
)
select
    relation.relname as name,
    relation.relkind::text as kind,
    relation.oid::bigint as id,
    case when relation.relkind in ('r', 'm') then pg_catalog.pg_relation_size(relation.oid) else 0 end as size,
    case when relation.relkind = 'r' then pg_catalog.pg_stat_get_live_tuples(relation.oid) else 0 end as live_rows,
    case when relation.relkind = 'r' then pg_catalog.pg_stat_get_dead_tuples(relation.oid) else 0 end as dead_rows,
    (
        select array_agg(distinct used.refobjid::bigint)
        from pg_catalog.pg_rewrite as rule
        join pg_catalog.pg_depend as used
            on used.classid = 'pg_catalog.pg_rewrite'::regclass and used.objid = rule.oid
            and used.refclassid = 'pg_catalog.pg_class'::regclass and used.refobjid <> relation.oid
        where rule.ev_class = relation.oid
    ) as reads,
    shape.columns,
    concat_ws(
        e'\n',
        relation.relkind, relation.relpersistence, pg_catalog.pg_get_userbyid(relation.relowner), relation.relacl::text,
        'options ' || relation.reloptions::text, 'access method ' || nullif(relation.relam, 0)::text,
        'tablespace ' || nullif(relation.reltablespace, 0)::text,
        case when relation.relrowsecurity then 'row security' end,
        case when relation.relhastriggers then 'triggers' end,
        case when relation.relhassubclass or relation.relispartition then 'inheritance' end,
        case when relation.relhasrules and relation.relkind = 'r' then 'rules' end,
        case when relation.relkind in ('v', 'm') then pg_catalog.pg_get_viewdef(relation.oid) end,
        shape.columns::text, shape.details,
        (
            select string_agg(
                regexp_replace(pg_catalog.pg_get_indexdef(indexrelid), 'INDEX .*? ON ', 'INDEX ON ')
                || case when indisclustered or not indisvalid or not indisready then ' odd' else '' end,
                e'\n' order by regexp_replace(pg_catalog.pg_get_indexdef(indexrelid), 'INDEX .*? ON ', 'INDEX ON ')
            )
            from pg_catalog.pg_index
            where indrelid = relation.oid and relation.relhasindex
        ),
        (
            select string_agg(pg_catalog.pg_get_constraintdef(oid), e'\n' order by pg_catalog.pg_get_constraintdef(oid))
            from pg_catalog.pg_constraint
            where conrelid = relation.oid and contype <> 'n'
        ),
        (
            select string_agg(objsubid || ' ' || description, e'\n' order by objsubid)
            from pg_catalog.pg_description
            where objoid = relation.oid and classoid = 'pg_catalog.pg_class'::regclass
        )
    ) as definition
from relation
cross join lateral (
    select
        array_agg(
            format('%%s %%s %%s', attname, atttypid, atttypmod) order by attnum
        ) as columns,
        string_agg(
            concat_ws(
                ' ', attname, case when attnotnull then 'not null' end, nullif(attidentity, ''), nullif(attgenerated, ''),
                nullif(attstorage, typstorage), nullif(attcompression, ''), nullif(attcollation, typcollation),
                attstattarget, attacl::text, attoptions::text,
                case when atthasdef then (
                    select pg_catalog.pg_get_expr(adbin, adrelid)
                    from pg_catalog.pg_attrdef
                    where adrelid = attrelid and adnum = attnum
                ) end
            ),
            e'\n' order by attnum
        ) as details
    from pg_catalog.pg_attribute
    join pg_catalog.pg_type on pg_type.oid = atttypid
    where attrelid = relation.oid and attnum > 0 and not attisdropped
) as shape
