-- Who the session of a read-only twin is, and what it could do beyond one. It may not ask whose the gates take it for.
-- Parameters: role. Run as the twin itself, before anything of the tenant's own; every name is of pg_catalog or
-- qualified, so that nothing in the tenant's schema can stand in for it.
select
    session_user::pg_catalog.text as session_name,
    current_user::pg_catalog.text as current_name,
    role.rolsuper or role.rolcreatedb or role.rolcreaterole or role.rolreplication or role.rolbypassrls as is_powerful,
    array(
        select other.rolname::pg_catalog.text
        from pg_catalog.pg_auth_members as member
        join pg_catalog.pg_roles as other on other.oid operator(pg_catalog.=) member.roleid
        where member.member operator(pg_catalog.=) role.oid
            and other.rolname operator(pg_catalog.<>) 'analytics_readers'
        order by other.rolname
    ) as strange_roles
from pg_catalog.pg_roles as role
where role.rolname operator(pg_catalog.=) %(role)s
