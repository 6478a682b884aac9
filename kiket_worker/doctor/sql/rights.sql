-- What the roles of the installation, PUBLIC and the server allow beyond what `migrate --roles` has set up, in one row.
-- Takes no parameters; reads catalogs only.
with ours as (
    select role.*, role.rolname ~ '^analytics_org_' or role.rolname = roles.shared_schema as is_tenant,
        role.rolname ~ '^analytics_ro_' as is_reader
    from pg_roles as role
    cross join kiket_analytics.roles
    where role.rolname in (
            'kiket_ledger', 'kiket_metrics', 'kiket_warden', 'analytics_gates', 'analytics_tenants',
            'analytics_readers', 'kiket_provisioner', roles.shared_schema
        )
        or role.rolname ~ '^analytics_(org|ro)_'
)
select
    current_user::text as login,
    (select rolsuper from pg_roles where rolname = current_user) as login_is_superuser,
    array_remove(
        array[
            case when has_database_privilege('public', current_database(), 'connect') then 'connect to the database' end,
            case when has_database_privilege('public', current_database(), 'temporary') then 'make temporary tables' end,
            case when has_schema_privilege('public', 'public', 'usage') then 'use the schema public' end,
            case when has_schema_privilege('public', 'public', 'create') then 'create in the schema public' end,
            case when has_function_privilege('public', 'pg_catalog.lo_create(oid)', 'execute')
                then 'create large objects' end
        ],
        null
    ) as public_rights,
    array(
        select role.rolname::text
        from ours as role
        where role.rolsuper or role.rolcreatedb or role.rolreplication or role.rolbypassrls
            or role.rolcreaterole and role.rolname <> 'kiket_provisioner'
            or role.rolcanlogin and role.rolname not in ('kiket_ledger', 'kiket_metrics')
                and not role.is_tenant and not role.is_reader
        order by 1
    ) as powerful_roles,
    -- What a group is a member of, each organisation's role has. Memberships but for those of `migrate --roles`, and
    -- those in roles of tenants that the provisioner has while it changes these.
    array(
        select granted.rolname || ' to ' || grantee.rolname
        from pg_auth_members as member
        join pg_roles as granted on granted.oid = member.roleid
        join ours as grantee on grantee.oid = member.member
        where not case
            when grantee.is_tenant then granted.rolname = 'analytics_tenants'
            when grantee.is_reader then granted.rolname = 'analytics_readers'
            when grantee.rolname = 'kiket_warden' then granted.rolname in ('pg_read_all_stats', 'pg_signal_backend')
            when grantee.rolname = 'kiket_provisioner' then granted.rolname in ('analytics_tenants', 'analytics_readers')
                or exists (select from ours where ours.oid = granted.oid and (ours.is_tenant or ours.is_reader))
            else false
        end
        order by 1
    ) as strange_grants,
    array(
        select datname::text
        from pg_database
        where datallowconn and datname <> current_database() and not datistemplate
            and has_database_privilege('analytics_tenants', oid, 'connect')
        order by 1
    ) as other_databases,
    -- The same roles are used by the installation of another database of this server.
    array(
        select distinct pg_database.datname::text
        from pg_shdepend
        join pg_roles on pg_roles.oid = pg_shdepend.refobjid
        join pg_database on pg_database.oid = pg_shdepend.dbid
        where pg_shdepend.refclassid = 'pg_authid'::regclass
            and pg_database.datname <> current_database()
            and pg_roles.rolname in ('analytics_tenants', 'analytics_gates', 'kiket_provisioner')
        order by 1
    ) as sharing_databases,
    current_setting('max_prepared_transactions')::integer as prepared_transactions
