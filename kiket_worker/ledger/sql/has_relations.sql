-- A row if a schema is there and holds any table or view, or none. Parameters: schema_name.
-- Reads the catalog only: relations count once the transaction that made them has committed.
select from pg_class
join pg_namespace on pg_namespace.oid = pg_class.relnamespace
where pg_namespace.nspname = %(schema_name)s and pg_class.relkind in ('r', 'v', 'm')
limit 1
