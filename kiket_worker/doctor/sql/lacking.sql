-- Which rights of a list its roles do not have, in the list's order.
-- Parameters: roles, kinds, names, columns and privileges, five arrays of one length; a column is empty where the right is
-- on the whole. Nobody has a right on a function that is not there; other objects that are not there are left out, as
-- something else tells of them. Reads catalogs only, and by their own names: `to_regclass` and its like refuse a schema
-- that the login may not use.
with wanted as (
    select *
    from unnest(
        %(roles)s::text[], %(kinds)s::text[], %(names)s::text[], %(columns)s::text[], %(privileges)s::text[]
    ) with ordinality as listed (role, kind, name, attribute, privilege, place)
),
objects as (
    select 'table' as kind, format('%%s.%%s', nspname, relname) as name, pg_class.oid
    from pg_class join pg_namespace on pg_namespace.oid = relnamespace
    where relkind in ('r', 'p', 'v')
    union all
    select 'function', format('%%s.%%s(%%s)', nspname, proname, oidvectortypes(proargtypes)), pg_proc.oid
    from pg_proc join pg_namespace on pg_namespace.oid = pronamespace
    where nspname in ('kiket_analytics', 'analytics_raw')
    union all
    select 'schema', nspname::text, oid from pg_namespace
)
select wanted.role, wanted.privilege, wanted.name
from wanted
join pg_roles on pg_roles.rolname = wanted.role
left join objects on objects.kind = wanted.kind and objects.name = wanted.name
where (objects.oid is not null or wanted.kind in ('parameter', 'function'))
    and not coalesce(case
        when wanted.kind = 'table' and wanted.attribute = ''
            then has_table_privilege(pg_roles.oid, objects.oid, wanted.privilege)
        when wanted.kind = 'table' then has_column_privilege(
            pg_roles.oid, objects.oid, wanted.attribute, wanted.privilege
        )
        when wanted.kind = 'function' then has_function_privilege(pg_roles.oid, objects.oid, wanted.privilege)
        when wanted.kind = 'schema' then has_schema_privilege(pg_roles.oid, objects.oid, wanted.privilege)
        else has_parameter_privilege(pg_roles.oid, wanted.name, wanted.privilege)
    end, false)
order by wanted.place
