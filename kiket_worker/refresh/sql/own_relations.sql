-- Which of some relations of a schema are there and belong to whose session this is, and of what kind they are.
-- Parameters: schema_name, names. Reads the catalog only; run as an organisation's own role.
select relation.relname, relation.relkind::pg_catalog.text as relkind
from pg_catalog.pg_class as relation
join pg_catalog.pg_namespace as namespace on namespace.oid operator(pg_catalog.=) relation.relnamespace
where namespace.nspname operator(pg_catalog.=) %(schema_name)s::pg_catalog.name
    and relation.relname operator(pg_catalog.=) any(%(names)s::pg_catalog.name[])
    and relation.relowner operator(pg_catalog.=) (
        select role.oid from pg_catalog.pg_roles as role where role.rolname operator(pg_catalog.=) current_user
    )
