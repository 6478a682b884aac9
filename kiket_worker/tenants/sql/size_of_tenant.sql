-- How many bytes a tenant's relations take: all in its schema, and what its role owns elsewhere (temporary tables).
-- Parameters: schema_name. Sees what is committed. Waits for no lock for longer than the caller's lock_timeout.
select coalesce(sum(pg_total_relation_size(relation.oid)), 0)::bigint as bytes
from pg_class as relation
where relation.relkind in ('r', 'm')
    and (
        relation.relnamespace = to_regnamespace(quote_ident(%(schema_name)s))
        or relation.relowner = (select oid from pg_roles where rolname = %(schema_name)s)
    )
