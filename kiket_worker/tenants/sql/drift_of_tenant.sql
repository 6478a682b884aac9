-- In what an organisation's database roles and schema differ from what provisioning makes of them, as a list of words;
-- an empty list where nothing does.
-- Parameters: schema_name, reader_name, organization_id, key_version, connection_limit, temp_megabytes,
-- statement_seconds, idle_seconds. Reads catalogs and one row of the ledger; passwords cannot be seen, so whether they
-- are right only a login tells.
with expected as (
    select
        %(schema_name)s::name as login,
        'analytics_tenants' as membership,
        kiket_analytics.tenant_settings(
            %(schema_name)s, %(temp_megabytes)s, %(statement_seconds)s, %(idle_seconds)s
        ) as settings
    union all
    select
        %(reader_name)s::name,
        'analytics_readers',
        kiket_analytics.tenant_settings(
            %(schema_name)s, %(temp_megabytes)s, %(statement_seconds)s, %(idle_seconds)s
        ) || array['default_transaction_read_only=on']
),
logins as (
    select
        expected.*,
        role.oid as role_id,
        role.rolcanlogin and role.rolinherit and role.rolconnlimit = %(connection_limit)s
            and role.rolvaliduntil is not distinct from 'infinity' as has_login,
        role.rolsuper or role.rolcreatedb or role.rolcreaterole or role.rolreplication or role.rolbypassrls as has_more,
        coalesce(role.rolconfig @> expected.settings and role.rolconfig <@ expected.settings, false)
            and not exists (
                select from pg_db_role_setting
                where setrole = role.oid and setdatabase = (select oid from pg_database where datname = current_database())
            ) as has_settings,
        coalesce((
            select array_agg(distinct granted.rolname::text) = array[expected.membership]
                and bool_and(member.inherit_option and not member.set_option and not member.admin_option)
            from pg_auth_members as member
            join pg_roles as granted on granted.oid = member.roleid
            where member.member = role.oid
        ), false) as has_membership
    from expected
    left join pg_roles as role on role.rolname = expected.login
),
tenant_schema as (
    select
        nspowner,
        (
            select coalesce(array_agg(concat(
                grantee::regrole, '=', privilege_type, case when is_grantable then ', and may pass it on' end
            ) order by grantee::regrole::text, privilege_type), '{}')
            from aclexplode(nspacl)
        ) = (
            select array_agg(name || '=' || privilege order by name, privilege)
            from (
                values (%(schema_name)s, 'USAGE'), (%(schema_name)s, 'CREATE'), (%(reader_name)s, 'USAGE')
            ) as wanted (name, privilege)
        ) as has_rights,
        exists (
            select
            from pg_default_acl
            cross join lateral aclexplode(defaclacl) as privilege
            join pg_roles as grantee on grantee.oid = privilege.grantee
            where defaclrole = (select oid from pg_roles where rolname = %(schema_name)s::name)
                and defaclnamespace = pg_namespace.oid
                and defaclobjtype = 'r'
                and grantee.rolname = %(reader_name)s::name
                and privilege.privilege_type = 'SELECT'
        ) as has_default_rights
    from pg_namespace
    where nspname = %(schema_name)s::name
)
select array_remove(
    array[
        case when not exists (
            select from kiket_analytics.tenants as tenant
            where tenant.schema_name = %(schema_name)s and tenant.reader_name = %(reader_name)s
                and tenant.organization_id = %(organization_id)s
        ) then 'registration' end,
        case when exists (
            select from kiket_analytics.tenants as tenant
            where tenant.schema_name = %(schema_name)s and tenant.key_version <> %(key_version)s
        ) then 'key' end,
        case when exists (select from logins where role_id is null) then 'role' end,
        case when exists (select from logins where not has_login) then 'login' end,
        case when exists (select from logins where has_more) then 'attributes' end,
        case when exists (select from logins where not has_settings) then 'settings' end,
        case when exists (select from logins where not has_membership) then 'membership' end,
        case when not exists (select from tenant_schema) then 'schema' end,
        case when exists (
            select from tenant_schema where pg_get_userbyid(nspowner) <> %(schema_name)s
        ) then 'ownership' end,
        case when exists (select from tenant_schema where not has_rights) then 'grants' end,
        case when exists (select from tenant_schema where not has_default_rights) then 'default_grants' end
    ],
    null
) as drift
