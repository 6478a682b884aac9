-- A row if a schema is there and holds any table or view, or none. Parameters: schema_name.
-- Reads the catalog only: relations count once the transaction that made them has committed. By the dependencies, which
-- have an index: pg_class has none on the schema, and as many rows as there are tenants.
select
from pg_depend
join pg_class on pg_class.oid = pg_depend.objid
where pg_depend.refclassid = 'pg_namespace'::regclass
    and pg_depend.refobjid = (select oid from pg_namespace where nspname = %(schema_name)s::name)
    and pg_depend.classid = 'pg_class'::regclass
    and pg_class.relkind in ('r', 'v', 'm')
limit 1
