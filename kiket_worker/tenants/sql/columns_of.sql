-- The columns of a relation with their types, in order; no row where it is not there.
-- Parameters: schema, table. Reads the catalog only, and needs no right on the schema.
select attname, format_type(atttypid, atttypmod) as type
from pg_attribute
join pg_class on pg_class.oid = attrelid
join pg_namespace on pg_namespace.oid = relnamespace
where nspname = %(schema)s
    and relname = %(table)s
    and attnum > 0
    and not attisdropped
order by attnum
