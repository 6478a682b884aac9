-- How many bytes the tables of a schema take, with all that belongs to them.
-- Parameters: schema, in quotes. Reads catalogs and locks nothing.
-- By the dependencies, which have an index: pg_class has none on the schema, and as many rows as there are tenants.
select coalesce(sum(pg_catalog.pg_total_relation_size(pg_class.oid)), 0)::bigint as bytes
from pg_catalog.pg_depend
join pg_catalog.pg_class on pg_class.oid = pg_depend.objid
where pg_depend.refclassid = 'pg_catalog.pg_namespace'::regclass
    and pg_depend.refobjid = %(schema)s::regnamespace
    and pg_depend.classid = 'pg_catalog.pg_class'::regclass
    and relkind in ('r', 'm')
