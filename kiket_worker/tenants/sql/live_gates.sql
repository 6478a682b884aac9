-- The relations in the schema of the gates: how Postgres reads each, whether it is as safe as a gate has to be, and
-- whether organisations can read it. Takes no parameters; reads the catalog only.
select
    relname,
    pg_get_viewdef(pg_class.oid) as definition,
    relkind = 'v'
        and pg_get_userbyid(relowner) = 'analytics_gates'
        and 'security_barrier=true' = any (coalesce(reloptions, '{}'))
        and has_table_privilege('analytics_tenants', pg_class.oid, 'select')
        and not exists (
            select from aclexplode(relacl) as privilege
            where privilege.grantee <> relowner
                and (privilege.grantee, privilege.privilege_type) <> ('analytics_tenants'::regrole, 'SELECT')
        )
        and not exists (select from pg_attribute where attrelid = pg_class.oid and attacl is not null) as is_safe,
    has_any_column_privilege('analytics_tenants', pg_class.oid, 'select') as is_open
from pg_class
where relnamespace = to_regnamespace('analytics_raw') and relkind in ('v', 'm', 'r', 'f', 'p')
order by relname
