-- The tables and views of two schemas that the session's role may read: what models can have as sources.
-- Parameters: schemas. Concurrent calls: reads catalogs.
select nspname as schema_name, relname as relation
from pg_catalog.pg_class
join pg_catalog.pg_namespace on pg_namespace.oid = relnamespace
where nspname = any(%(schemas)s)
    and relkind in ('r', 'p', 'v', 'm', 'f')
    and has_table_privilege(pg_class.oid, 'select')
order by nspname, relname
