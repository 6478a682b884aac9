-- The relations of which the owner of the gates can read columns by a grant, but for the table of tenants.
-- Takes no parameters; reads the catalog only.
select distinct nspname, relname
from pg_class
join pg_namespace on pg_namespace.oid = relnamespace
left join pg_attribute on attrelid = pg_class.oid and attacl is not null
cross join lateral aclexplode(coalesce(attacl, relacl)) as privilege
where privilege.grantee = 'analytics_gates'::regrole
    and relowner <> 'analytics_gates'::regrole
    and (nspname, relname) <> ('kiket_analytics', 'tenants')
