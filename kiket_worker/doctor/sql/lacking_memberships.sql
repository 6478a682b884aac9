-- What roles lack that is no right on an object of the installation: attributes, memberships, and rights on the database.
-- Takes no parameters; reads catalogs only.
with wanted (role, what, privilege) as (
    values
    ('kiket_ledger', 'attribute', 'login'),
    ('kiket_metrics', 'attribute', 'login'),
    ('kiket_provisioner', 'attribute', 'createrole'),
    ('kiket_provisioner', 'member', 'analytics_tenants'),
    ('kiket_provisioner', 'member', 'analytics_readers'),
    ('kiket_warden', 'member', 'pg_read_all_stats'),
    ('kiket_warden', 'member', 'pg_signal_backend'),
    ('kiket_ledger', 'database', 'connect'),
    ('kiket_metrics', 'database', 'connect'),
    ('analytics_readers', 'database', 'connect'),
    ('analytics_tenants', 'database', 'connect'),
    ('analytics_tenants', 'database', 'temporary'),
    ('kiket_provisioner', 'database', 'create')
)
select
    wanted.role,
    case wanted.what
        when 'member' then 'membership in ' || wanted.privilege
        when 'database' then wanted.privilege || ' on the database'
        else wanted.privilege
    end as lacks
from wanted
join pg_roles as role on role.rolname = wanted.role
where not case
    when wanted.privilege = 'login' then role.rolcanlogin
    when wanted.privilege = 'createrole' then role.rolcreaterole
    when wanted.what = 'member' then exists (
        select from pg_auth_members as member
        join pg_roles as granted on granted.oid = member.roleid
        where member.member = role.oid and granted.rolname = wanted.privilege
    )
    else has_database_privilege(role.oid, current_database(), wanted.privilege)
end
order by wanted.role, lacks
