-- Whether an index of this name is one of these relations'.
-- Parameters: schema, in quotes; index; dropped, names of relations. Reads catalogs and locks nothing.
select index.oid
from pg_catalog.pg_class as index
join pg_catalog.pg_index on pg_index.indexrelid = index.oid
join pg_catalog.pg_class as indexed on indexed.oid = pg_index.indrelid
where index.relnamespace = %(schema)s::regnamespace and index.relname = %(index)s
    and indexed.relname = any(%(dropped)s)
