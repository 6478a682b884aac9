-- How many bytes a tenant's relations take: all in its schema, and what its role owns elsewhere (temporary tables).
-- Parameters: schema_name. Sees what is committed. Waits for no lock for longer than the caller's lock_timeout.
-- By the dependencies, which have indexes: pg_class has none on schema or owner, and as many rows as there are tenants.
with relations as (
    select objid
    from pg_depend
    where refclassid = 'pg_namespace'::regclass
        and refobjid = (select oid from pg_namespace where nspname = %(schema_name)s::name)
        and classid = 'pg_class'::regclass
    union
    select objid
    from pg_shdepend
    where refclassid = 'pg_authid'::regclass
        and refobjid = (select oid from pg_roles where rolname = %(schema_name)s::name)
        and dbid = (select oid from pg_database where datname = current_database())
        and classid = 'pg_class'::regclass
        and deptype = 'o'
)
select coalesce(sum(pg_total_relation_size(relation.oid)), 0)::bigint as bytes
from relations
join pg_class as relation on relation.oid = relations.objid
where relation.relkind in ('r', 'm')
