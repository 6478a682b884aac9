-- The database roles of kiket-worker, what each may do, and the functions that lend a right for one purpose.
--
-- Run by `kiket-worker migrate --roles`, which adds the gates; or by hand, in one transaction, after `kiket-worker migrate`:
--     psql --single-transaction --set ON_ERROR_STOP=1 --file roles.sql DATABASE
-- As a superuser: nobody else may give away the functions below. Safe to run again: it makes what is missing.
-- The shared schema is called analytics_shared unless the setting kiket.shared_schema says otherwise
-- (PGOPTIONS="-c kiket.shared_schema=NAME").
-- Locks: catalog rows of roles, schemas and functions; no table is locked against reading or writing.
--
-- role               login  what it is for
-- kiket_ledger       yes    ticker, worker, command line: DATABASE_URL. Rows of the ledger, slugs, changelogs of releases
-- kiket_metrics      yes    reads runs, leases and settings for metrics; writes nothing
-- kiket_provisioner  no     owns the functions that make, mend and drop tenants, and holds a tenant's roles meanwhile only
-- kiket_warden       no     owns the function that ends sessions of tenants; nobody can log in as it
-- analytics_gates    no     owns the gates; reads the listed columns of raw tables and nothing else
-- analytics_tenants  no     group: what every organisation's role may do beside owning its schema
-- analytics_readers  no     group: the same for their read-only twins
-- analytics_shared   yes    owns the shared schema, builds the shared models; sees no organisation's rows
-- analytics_org_*    yes    one for each organisation: owner of the schema of its name (made by provision_tenant)
-- analytics_ro_*     yes    its read-only twin, for dashboards and previews (made by provision_tenant)
--
-- kiket_ledger and kiket_metrics cannot log in before somebody gives them a password: \password kiket_ledger

set local search_path = pg_catalog, pg_temp;
set local lock_timeout = '2s'; -- What others may be held up; `migrate --roles` tries again.

do $$
declare
    wanted text;
    shared name := coalesce(nullif(current_setting('kiket.shared_schema', true), ''), 'analytics_shared');
begin
    if current_setting('server_version_num')::integer < 160000 then
        raise exception 'roles need Postgres 16 or newer, and this is %', current_setting('server_version')
            using errcode = 'feature_not_supported';
    end if;
    foreach wanted in array array[
        'kiket_ledger', 'kiket_metrics', 'kiket_provisioner', 'kiket_warden',
        'analytics_gates', 'analytics_tenants', 'analytics_readers', shared
    ] loop
        if not exists (select from pg_roles where rolname = wanted) then
            execute format('create role %I', wanted);
        end if;
    end loop;
    execute format('alter role %I login connection limit 8', shared);
end
$$;

alter role kiket_ledger login;
alter role kiket_metrics login connection limit 4;
-- It may change roles that it is an administrator of (Postgres 16): those that `hold_login` gives it, until
-- `release_login`. Were it one of all that it ever made, each change of any membership would cost it a look at all of
-- them: a fifth of a second among six thousand tenants.
alter role kiket_provisioner nologin createrole;
grant analytics_tenants, analytics_readers to kiket_provisioner with admin true, inherit false, set false;
-- Roles of tenants get two settings that they cannot lift; setting these takes a right of its own.
grant set on parameter temp_file_limit, log_min_messages to kiket_provisioner;
-- To see how long a session's statement takes, and to end the session. The function below picks tenants' sessions only.
grant pg_read_all_stats, pg_signal_backend to kiket_warden with inherit true, set false;

-- The database and the schema `public`: what PUBLIC has today, each login that is there keeps by name, and no tenant has.
do $$
declare
    ours name[] := array[
        'kiket_ledger', 'kiket_metrics',
        coalesce(nullif(current_setting('kiket.shared_schema', true), ''), 'analytics_shared')
    ];
    login name;
    lo_function text;
    lo_functions text[] := array['lo_creat(integer)', 'lo_create(oid)', 'lo_from_bytea(oid, bytea)'];
begin
    if has_database_privilege('public', current_database(), 'connect')
        or has_database_privilege('public', current_database(), 'temporary')
        or has_schema_privilege('public', 'public', 'usage')
        or has_schema_privilege('public', 'public', 'create')
        or has_function_privilege('public', 'pg_catalog.lo_create(oid)', 'execute')
    then
        for login in
            select rolname from pg_roles
            where rolcanlogin and not rolsuper and rolname <> all (ours)
                and rolname !~ '^analytics_(org|ro)_'
        loop
            if has_database_privilege(login, current_database(), 'connect') then
                execute format('grant connect on database %I to %I', current_database(), login);
            end if;
            if has_database_privilege(login, current_database(), 'temporary') then
                execute format('grant temporary on database %I to %I', current_database(), login);
            end if;
            if has_schema_privilege(login, 'public', 'usage') then
                execute format('grant usage on schema public to %I', login);
            end if;
            if has_schema_privilege(login, 'public', 'create') then
                execute format('grant create on schema public to %I', login);
            end if;
            foreach lo_function in array lo_functions loop
                if has_function_privilege(login, 'pg_catalog.' || lo_function, 'execute') then
                    execute format('grant execute on function pg_catalog.%s to %I', lo_function, login);
                end if;
            end loop;
        end loop;
        execute format('revoke connect, temporary on database %I from public', current_database());
        revoke usage, create on schema public from public;
        -- Large objects lie in no schema, so that no quota would count them.
        foreach lo_function in array lo_functions loop
            execute format('revoke execute on function pg_catalog.%s from public', lo_function);
        end loop;
    end if;
    execute format('grant connect on database %I to kiket_ledger, kiket_metrics, analytics_readers', current_database());
    -- dbt's incremental models and its tests make temporary tables.
    execute format('grant connect, temporary on database %I to analytics_tenants', current_database());
    execute format('grant connect, temporary on database %I to %I', current_database(), ours[3]);
    -- For the schemas of organisations.
    execute format('grant create on database %I to kiket_provisioner', current_database());
end
$$;

-- kiket_ledger: rows of the ledger, and of the platform only which organisations there are, and changelogs.
grant usage on schema public to kiket_ledger, kiket_metrics, kiket_provisioner;
grant select (id, slug, name, plan) on public.organizations to kiket_ledger;
grant usage on schema kiket_analytics to kiket_ledger, kiket_metrics, kiket_provisioner, kiket_warden, analytics_gates;
grant select on all tables in schema kiket_analytics to kiket_ledger;
grant insert, update on
    kiket_analytics.analytics_settings, kiket_analytics.runs, kiket_analytics.leases, kiket_analytics.attempts,
    kiket_analytics.shared_refreshes, kiket_analytics.built_relations, kiket_analytics.tokens,
    -- Sums of runs and usage, which triggers keep in the transactions that change them.
    kiket_analytics.usage_daily, kiket_analytics.usage_monthly, kiket_analytics.usage_of_all, kiket_analytics.run_hours
to kiket_ledger;
-- An attempt forgets the models of the one before.
grant insert, update, delete on kiket_analytics.run_models to kiket_ledger;
-- Written once and never changed: what is charged for, what an idempotency key names, whose artifacts were removed, and
-- what was published, and what changelogs have scored.
grant insert on
    kiket_analytics.usage_events, kiket_analytics.run_requests, kiket_analytics.pruned_artifacts,
    kiket_analytics.definition_versions, kiket_analytics.changelog_evaluations
to kiket_ledger;
grant update on kiket_analytics.ticker, kiket_analytics.changelog_turn to kiket_ledger;
-- The changelogs of releases, where the platform has them: of tenants' rows the only ones that it reads.
do $$
declare
    wanted name[] := array['id', 'organization_id', 'project_id', 'changelog_draft', 'changelog'];
begin
    if cardinality(wanted) = (
        select count(*) from pg_attribute
        where attrelid = to_regclass('public.releases') and attname = any (wanted) and not attisdropped
    ) then
        grant select (id, organization_id, project_id, changelog_draft, changelog) on public.releases to kiket_ledger;
    end if;
end
$$;

-- kiket_metrics: counts and ages; no usage, no messages of requests.
grant select (id, slug, plan) on public.organizations to kiket_metrics;
grant select on
    kiket_analytics.analytics_settings, kiket_analytics.runs, kiket_analytics.leases, kiket_analytics.attempts,
    kiket_analytics.run_models, kiket_analytics.shared_refreshes, kiket_analytics.tenants
to kiket_metrics;

-- kiket_provisioner: whose slug it is, whether somebody writes the schema now, and the table of tenants.
grant select (id, slug) on public.organizations to kiket_provisioner;
grant select, insert, update on kiket_analytics.leases to kiket_provisioner;
grant select, insert, update, delete on kiket_analytics.tenants to kiket_provisioner;
grant select on kiket_analytics.roles to kiket_provisioner, kiket_warden;
-- kiket_warden: which roles are tenants', and who of them is being refreshed.
grant select on kiket_analytics.tenants, kiket_analytics.leases to kiket_warden;

-- analytics_gates: whose session it is. Its rights on raw tables come with the list of gates.
grant select (schema_name, reader_name, organization_id) on kiket_analytics.tenants to analytics_gates;

-- The schemas that all organisations share.
do $$
declare
    shared name := coalesce(nullif(current_setting('kiket.shared_schema', true), ''), 'analytics_shared');
begin
    create schema if not exists analytics_raw authorization analytics_gates;
    if not exists (select from pg_namespace where nspname = shared) then
        execute format('create schema %I authorization %I', shared, shared);
    end if;
    execute format('alter schema %I owner to %I', shared, shared);
    execute format('grant usage on schema %I to analytics_tenants, analytics_readers', shared);
    execute format('grant select on all tables in schema %I to analytics_tenants, analytics_readers', shared);
    execute format(
        'alter default privileges for role %I in schema %I grant select on tables to analytics_tenants, analytics_readers',
        shared, shared
    );
    execute format('grant %I to kiket_provisioner with admin true, inherit false, set false', shared);
    insert into kiket_analytics.roles (level, shared_schema) values (5, shared)
    on conflict (only_row) do update
    set level = excluded.level, shared_schema = excluded.shared_schema, applied_at = now();
end
$$;
revoke all on schema analytics_raw from public;
grant usage on schema analytics_raw to analytics_tenants;

-- Whose session it is, by the one name that no statement can change: session_user is who logged in, whatever SET ROLE,
-- set_config or a function's owner say. Null for everybody who is no tenant, and then a gate shows no row.
create or replace function analytics_raw.session_organization_id() returns bigint
language sql stable parallel safe security definer
set search_path = pg_catalog, pg_temp
as $$
    select tenant.organization_id
    from kiket_analytics.tenants as tenant
    where tenant.schema_name = session_user::text or tenant.reader_name = session_user::text
$$;
alter function analytics_raw.session_organization_id() owner to analytics_gates;
revoke all on function analytics_raw.session_organization_id() from public;
-- Readers too: a view of their organisation may read a gate. The builder of shared models is told that it is nobody.
grant execute on function analytics_raw.session_organization_id() to analytics_tenants, analytics_readers;
do $$
declare
    shared name := (select roles.shared_schema from kiket_analytics.roles);
begin
    execute format('grant usage on schema analytics_raw to %I', shared);
    execute format('grant execute on function analytics_raw.session_organization_id() to %I', shared);
end
$$;

-- What a role of an organisation is set to at each login. A tenant may change its search_path and time-outs for itself;
-- what overruns is ended from outside. Given by one function, so that making and checking agree.
create or replace function kiket_analytics.tenant_settings(
    schema_name text, temp_megabytes integer, statement_seconds integer, idle_seconds integer
) returns text[]
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select array[
        'search_path=' || quote_ident(schema_name),
        'temp_file_limit=' || temp_megabytes || 'MB',
        -- RAISE LOG in a loop would fill the server's log. What dbt is told of errors is in its own.
        'log_min_messages=fatal',
        'statement_timeout=' || statement_seconds || 's',
        'idle_in_transaction_session_timeout=' || idle_seconds || 's'
    ]
$$;
alter function kiket_analytics.tenant_settings(text, integer, integer, integer) owner to kiket_provisioner;
revoke all on function kiket_analytics.tenant_settings(text, integer, integer, integer) from public;
grant execute on function kiket_analytics.tenant_settings(text, integer, integer, integer) to kiket_ledger;

-- Make a login of a tenant if need be, and give kiket_provisioner all rights on it, until `release_login`. The only two
-- functions that act as the superuser who installed them: for names of tenants' roles, and for kiket_provisioner alone.
-- Refuses a role that has more than a tenant's rights.
create or replace function kiket_analytics.hold_login(login text) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if login !~ '^analytics_(org|ro)_[a-z0-9]([a-z0-9_]*[a-z0-9])?$' or length(login) > 63 then
        raise exception '% is no name of a tenant''s role', quote_literal(login) using errcode = 'invalid_name';
    end if;
    if exists (
        select from pg_roles
        where rolname = login and (rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls)
    ) then
        raise exception 'role % has more rights than an organisation''s role may have', login
            using errcode = 'invalid_role_specification',
                hint = format('As a superuser: alter role %I nosuperuser nocreatedb nocreaterole noreplication nobypassrls', login);
    end if;
    if not exists (select from pg_roles where rolname = login) then
        execute format('create role %I', login);
    end if;
    execute format('grant %I to kiket_provisioner with admin true, inherit true, set true', login);
end
$$;

create or replace function kiket_analytics.release_login(login text) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if login !~ '^analytics_(org|ro)_[a-z0-9]([a-z0-9_]*[a-z0-9])?$' then
        raise exception '% is no name of a tenant''s role', quote_literal(login) using errcode = 'invalid_name';
    end if;
    execute format('revoke %I from kiket_provisioner', login);
end
$$;

-- Set one login of a tenant, which is held, as it should be: with a password, a limit on connections, the given settings
-- and the membership in one group.
create or replace function kiket_analytics.set_up_login(
    login text, verifier text, connection_limit integer, settings text[], membership text
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    other text;
    grantor text;
    setting text;
begin
    execute format(
        'alter role %I with login inherit connection limit %s password %L valid until ''infinity''',
        login, connection_limit, verifier
    );
    execute format('alter role %I reset all', login);
    execute format('alter role %I in database %I reset all', login, current_database());
    foreach setting in array settings loop
        execute format(
            'alter role %I set %I = %L',
            login, split_part(setting, '=', 1), substr(setting, strpos(setting, '=') + 1)
        );
    end loop;
    -- What somebody else has granted, only they or a superuser take back: that is refused, and not left as it is.
    for other, grantor in
        select granted.rolname, granting.rolname
        from pg_auth_members as member
        join pg_roles as granted on granted.oid = member.roleid
        join pg_roles as granting on granting.oid = member.grantor
        where member.member = quote_ident(login)::regrole
            and (
                granted.rolname <> membership
                or granting.rolname <> current_user
                    and (not member.inherit_option or member.set_option or member.admin_option)
            )
    loop
        execute format('revoke %I from %I granted by %I', other, login, grantor);
    end loop;
    if not exists (
        select
        from pg_auth_members as member
        where member.roleid = membership::regrole and member.member = quote_ident(login)::regrole
            and member.inherit_option and not member.set_option and not member.admin_option
    ) then
        execute format('grant %I to %I with inherit true, set false, admin false', membership, login);
    end if;
end
$$;

-- Whether a role of this name may be made a tenant's: there is none; or provisioning has made it, which shows by its
-- group or by the table of tenants; or a superuser has made kiket_provisioner its administrator.
create or replace function kiket_analytics.is_ours(login text) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select not exists (select from pg_roles where rolname = login)
        or exists (select from kiket_analytics.tenants where login in (tenants.schema_name, tenants.reader_name))
        or exists (
            select
            from pg_auth_members
            where (member = (select oid from pg_roles where rolname = login)
                and roleid in ('analytics_tenants'::regrole, 'analytics_readers'::regrole)
                and grantor = 'kiket_provisioner'::regrole)
            or (roleid = (select oid from pg_roles where rolname = login)
                and member = 'kiket_provisioner'::regrole and admin_option)
        )
$$;

-- Make or mend an organisation's schema, its role and the read-only twin. Gives null, or, where the schema has another
-- owner, who that is: the roles are made then, and nothing else, until somebody with that right gives the schema away.
-- Passwords come as SCRAM verifiers (RFC 5803), so that no statement ever has one in clear. `epoch` is that of the
-- caller's own lease, if it holds it. A change of the key, and so of the passwords, is refused with object_in_use while
-- somebody else holds the lease: a refresh opens more connections while it runs.
-- Concurrent calls queue at a lock of the table of tenants, which nobody else waits for: membership in a group locks the
-- group until the transaction ends, so that two batches, or a batch and a refresh, would meet there and at a lease in
-- turn, and be each other's deadlock. A claim of an organisation's lease waits at its row. A tenant that changes its own
-- role in a transaction that it leaves open is waited for until lock_timeout only, and so holds up nobody else.
-- With `probe_slug`, what is made is no organisation's but a probe's: a tenant made up to record dbt, or to try
-- definitions, which has no lease and is dropped afterwards. It sees the rows of the organisation with this id, if there is one.
drop function if exists kiket_analytics.provision_tenant(
    bigint, text, text, integer, integer, integer, integer, integer, bigint
);
create or replace function kiket_analytics.provision_tenant(
    tenant_id bigint, verifier text, reader_verifier text, version integer, connection_limit integer,
    temp_megabytes integer, statement_seconds integer, idle_seconds integer, epoch bigint, probe_slug text default null
) returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
    slug text;
    tenant text;
    reader text;
    lease kiket_analytics.leases;
    known kiket_analytics.tenants;
    login text;
    owner name;
    stranger oid;
    relations text;
begin
    if probe_slug is null then
        select organization.slug into slug from public.organizations as organization where organization.id = tenant_id;
        if not found then
            raise exception 'no organisation has the id %', tenant_id using errcode = 'no_data_found';
        end if;
    elsif probe_slug !~ '^(probe|trial)-' or exists (
        select from public.organizations as organization
        where replace(organization.slug, '-', '_') = replace(probe_slug, '-', '_')
    ) then
        raise exception '% is no name for a probe', quote_literal(probe_slug) using errcode = 'invalid_name';
    else
        slug := probe_slug;
    end if;
    if slug !~ '^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$' or length(slug) > 49 then
        raise exception 'slug % cannot be a schema name', quote_literal(slug) using errcode = 'invalid_name';
    end if;
    tenant := 'analytics_org_' || replace(slug, '-', '_');
    reader := 'analytics_ro_' || replace(slug, '-', '_');

    lock table kiket_analytics.tenants in share update exclusive mode;
    if probe_slug is null then
        insert into kiket_analytics.leases (schema_name, organization_id) values (tenant, tenant_id)
        on conflict (schema_name) do nothing;
        select * into lease from kiket_analytics.leases where leases.schema_name = tenant for update;
        if lease.organization_id is distinct from tenant_id then
            raise exception 'schema % belongs to another organisation', tenant using errcode = 'unique_violation';
        end if;
    end if;
    select * into known from kiket_analytics.tenants where tenants.schema_name = tenant;
    if known.key_version > version then
        raise exception 'the passwords of % are of version % of the key', tenant, known.key_version
            using errcode = 'invalid_password';
    end if;
    if known.key_version <> version and lease.worker is not null and lease.expires_at > now()
        and lease.epoch is distinct from provision_tenant.epoch
    then
        raise exception 'schema % is being refreshed', tenant using errcode = 'object_in_use';
    end if;

    foreach login in array array[tenant, reader] loop
        if not kiket_analytics.is_ours(login) then
            raise exception 'role % is of somebody else', login using errcode = 'insufficient_privilege';
        end if;
        perform kiket_analytics.hold_login(login);
    end loop;
    perform kiket_analytics.set_up_login(
        tenant, verifier, connection_limit,
        kiket_analytics.tenant_settings(tenant, temp_megabytes, statement_seconds, idle_seconds), 'analytics_tenants'
    );
    perform kiket_analytics.set_up_login(
        reader, reader_verifier, connection_limit,
        kiket_analytics.tenant_settings(tenant, temp_megabytes, statement_seconds, idle_seconds)
            || array['default_transaction_read_only=on'],
        'analytics_readers'
    );

    select rolname into owner
    from pg_namespace join pg_roles on pg_roles.oid = nspowner
    where nspname = tenant;
    if not found then
        execute format('create schema %I authorization %I', tenant, tenant);
    elsif owner <> tenant then
        perform kiket_analytics.release_login(tenant), kiket_analytics.release_login(reader);
        return owner;
    end if;
    for stranger in
        select distinct privilege.grantee
        from pg_namespace
        cross join lateral aclexplode(nspacl) as privilege
        where nspname = tenant and privilege.grantee <> quote_ident(tenant)::regrole
            -- What the twin has passed on goes with its right to do so.
            and (privilege.grantee <> quote_ident(reader)::regrole or privilege.is_grantable)
    loop
        execute format(
            'revoke all on schema %I from %s cascade',
            tenant, case stranger when 0 then 'public' else stranger::regrole::text end
        );
    end loop;
    execute format('grant all on schema %I to %I', tenant, tenant);
    execute format('revoke create on schema %I from %I', tenant, reader);
    execute format('grant usage on schema %I to %I', tenant, reader);
    -- Of its own only: on tables that the platform keeps there, nobody here may grant anything.
    select string_agg(format('%I.%I', tenant, relation.relname), ', ') into relations
    from pg_depend
    join pg_class as relation on relation.oid = pg_depend.objid
    where pg_depend.refclassid = 'pg_namespace'::regclass and pg_depend.refobjid = quote_ident(tenant)::regnamespace
        and pg_depend.classid = 'pg_class'::regclass
        and relation.relkind in ('r', 'p', 'v', 'm', 'f') and relation.relowner = quote_ident(tenant)::regrole;
    if relations is not null then
        execute format('grant select on %s to %I', relations, reader);
    end if;
    execute format('alter default privileges for role %I in schema %I grant select on tables to %I', tenant, tenant, reader);
    perform kiket_analytics.release_login(tenant), kiket_analytics.release_login(reader);

    insert into kiket_analytics.tenants as present (
        schema_name, reader_name, organization_id, key_version, connection_limit
    )
    values (tenant, reader, tenant_id, version, connection_limit)
    on conflict (schema_name) do update
    set
        reader_name = excluded.reader_name,
        organization_id = excluded.organization_id,
        key_version = excluded.key_version,
        connection_limit = excluded.connection_limit,
        provisioned_at = now();
    return null;
end
$$;

-- The same for the role of the shared schema, whose rights on the database this file gives.
create or replace function kiket_analytics.provision_shared(
    verifier text, version integer, connection_limit integer, temp_megabytes integer, statement_seconds integer,
    idle_seconds integer, epoch bigint
) returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
    shared text;
    lease kiket_analytics.leases;
    known kiket_analytics.tenants;
    setting text;
begin
    select roles.shared_schema into shared from kiket_analytics.roles;
    insert into kiket_analytics.leases (schema_name) values (shared) on conflict (schema_name) do nothing;
    select * into lease from kiket_analytics.leases where leases.schema_name = shared for update;
    select * into known from kiket_analytics.tenants where tenants.schema_name = shared;
    if known.key_version > version then
        raise exception 'the passwords of % are of version % of the key', shared, known.key_version
            using errcode = 'invalid_password';
    end if;
    if known.key_version <> version and lease.worker is not null and lease.expires_at > now()
        and lease.epoch is distinct from provision_shared.epoch
    then
        raise exception 'schema % is being refreshed', shared using errcode = 'object_in_use';
    end if;
    execute format('alter role %I with connection limit %s password %L', shared, connection_limit, verifier);
    execute format('alter role %I reset all', shared);
    foreach setting in array kiket_analytics.tenant_settings(shared, temp_megabytes, statement_seconds, idle_seconds) loop
        execute format(
            'alter role %I set %I = %L',
            shared, split_part(setting, '=', 1), substr(setting, strpos(setting, '=') + 1)
        );
    end loop;
    insert into kiket_analytics.tenants as present (schema_name, key_version, connection_limit)
    values (shared, version, connection_limit)
    on conflict (schema_name) do update
    set key_version = excluded.key_version, connection_limit = excluded.connection_limit, provisioned_at = now();
    return shared;
end
$$;

-- Lend the caller's login those of a tenant's roles that have set themselves a role or a session_authorization, until
-- `take_back_logins`; give their names. Postgres lets no SECURITY DEFINER function reset these two, so that the caller
-- has to, as that role and in the same transaction. It gains nothing: whoever may provision may give a role a password.
create or replace function kiket_analytics.lend_logins(tenant text) returns name[]
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
    lent name[] := '{}';
    login name;
begin
    lock table kiket_analytics.tenants in share update exclusive mode;
    for login in
        select rolname
        from pg_roles
        where rolname = any (kiket_analytics.names_of_tenant(tenant, true))
            and exists (
                select
                from pg_db_role_setting
                cross join lateral unnest(setconfig) as setting
                where setrole = pg_roles.oid and split_part(setting, '=', 1) in ('role', 'session_authorization')
            )
    loop
        perform kiket_analytics.hold_login(login);
        execute format('grant %I to %I with inherit false, set true, admin false', login, session_user);
        lent := lent || login;
    end loop;
    return lent;
end
$$;

create or replace function kiket_analytics.take_back_logins(lent name[]) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    login name;
begin
    foreach login in array lent loop
        execute format('revoke %I from %I', login, session_user);
        perform kiket_analytics.release_login(login);
    end loop;
end
$$;

-- Remove an organisation's schema, both roles and everything that they own in this database; false where there is no
-- such tenant. Refused with object_in_use while somebody holds the lease of the schema. Queues as provision_tenant does.
create or replace function kiket_analytics.drop_tenant(tenant text) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
    lease kiket_analytics.leases;
    known kiket_analytics.tenants;
    login text;
begin
    lock table kiket_analytics.tenants in share update exclusive mode;
    select * into lease from kiket_analytics.leases where leases.schema_name = tenant for update;
    if lease.worker is not null and lease.expires_at > now() then
        raise exception 'schema % is being refreshed', tenant using errcode = 'object_in_use';
    end if;
    select * into known from kiket_analytics.tenants
    where tenants.schema_name = tenant and tenants.organization_id is not null for update;
    if not found then
        return false;
    end if;
    if kiket_analytics.end_tenant_sessions(tenant, readers => true) < 0 then
        raise exception 'sessions of % do not end', tenant using errcode = 'object_in_use';
    end if;
    -- The schema first, with the owner's rights: the twin's rights on it go with it, and nobody else could revoke them.
    foreach login in array array[tenant, known.reader_name] loop
        if exists (select from pg_roles where rolname = login) then
            perform kiket_analytics.hold_login(login);
            if login = tenant then
                execute format('drop schema if exists %I cascade', tenant);
            end if;
            execute format('drop owned by %I', login);
            execute format('drop role %I', login);
        end if;
    end loop;
    delete from kiket_analytics.tenants where tenants.schema_name = tenant;
    return true;
end
$$;

-- End every session of a tenant's role, or of the shared schema's, and wait until they are gone; give how many there
-- were, and minus one where some stay. Sessions of the read-only twin write nothing and are left, unless `readers`.
create or replace function kiket_analytics.end_tenant_sessions(tenant text, readers boolean default false)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    names name[];
    ended integer;
begin
    names := kiket_analytics.names_of_tenant(tenant, readers);
    perform pg_stat_clear_snapshot();
    -- Waits up to five seconds for each; one that is ended already gives the same answer, so they are looked for again.
    select count(pg_terminate_backend(pid, 5000)) into ended from pg_stat_activity where usename = any (names);
    if ended > 0 then
        perform pg_stat_clear_snapshot();
        if exists (select from pg_stat_activity where usename = any (names)) then
            return -1;
        end if;
    end if;
    return ended;
end
$$;

-- The roles behind the name of a tenant's schema. Raises undefined_object for a name that is no tenant's: what ends
-- sessions ends nobody else's.
create or replace function kiket_analytics.names_of_tenant(tenant text, readers boolean) returns name[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if tenant ~ '^analytics_org_[a-z0-9]([a-z0-9_]*[a-z0-9])?$' and length(tenant) <= 63 then
        return array[tenant]::name[]
            || case when readers then array['analytics_ro_' || substr(tenant, 15)]::name[] else '{}'::name[] end;
    end if;
    if exists (select from kiket_analytics.roles where roles.shared_schema = tenant) then
        return array[tenant]::name[];
    end if;
    raise exception '% is no tenant''s schema', quote_literal(tenant) using errcode = 'undefined_object';
end
$$;

-- End the sessions of these roles whose statement takes too long, or that idle in a transaction; of twins also those whose
-- transaction takes longer than a statement and an idling together. Give a row for each limit that one was over.
-- From outside, because a tenant may lift every time-out of its own session. All times in seconds.
create or replace function kiket_analytics.end_overrunning_of(
    names name[], statement_seconds double precision, idle_seconds double precision
) returns table (pid integer, login name, overrun text, seconds double precision)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_stat_clear_snapshot();
    -- Chosen first and ended one by one: in one statement, Postgres might call the function before it filters.
    for pid, login, overrun, seconds in
        select session.pid, session.usename, exceeded.overrun, exceeded.seconds
        from pg_stat_activity as session
        cross join lateral (
            values
                ('idle', session.state like 'idle in transaction%', session.state_change, idle_seconds),
                ('statement', session.state = 'active', session.query_start, statement_seconds),
                -- Nobody ends a dashboard's transaction with a run; open, it keeps the database from being vacuumed.
                (
                    'transaction', session.usename ~ '^analytics_ro_', session.xact_start,
                    statement_seconds + idle_seconds
                )
        ) as limits (overrun, applies, since, most_seconds)
        cross join lateral (
            select limits.overrun, extract(epoch from clock_timestamp() - limits.since) as seconds
        ) as exceeded
        where session.usename = any (names) and session.backend_type = 'client backend'
            and limits.applies and exceeded.seconds > limits.most_seconds
    loop
        perform pg_terminate_backend(pid);
        return next;
    end loop;
end
$$;

-- The same for one tenant, its twin's sessions too: for the worker that refreshes it.
create or replace function kiket_analytics.end_overrunning_sessions(
    tenant text, statement_seconds double precision, idle_seconds double precision
) returns table (pid integer, login name, overrun text, seconds double precision)
language sql security definer
set search_path = pg_catalog, pg_temp
as $$
    select * from kiket_analytics.end_overrunning_of(
        kiket_analytics.names_of_tenant(tenant, true), statement_seconds, idle_seconds
    )
$$;

-- The same for all tenants whom nobody refreshes at the moment: for the ticker.
create or replace function kiket_analytics.end_unattended_sessions(
    statement_seconds double precision, idle_seconds double precision
) returns table (pid integer, login name, overrun text, seconds double precision)
language sql security definer
set search_path = pg_catalog, pg_temp
as $$
    select * from kiket_analytics.end_overrunning_of(
        (
            select coalesce(array_agg(session.usename), '{}')
            from pg_stat_activity as session
            join kiket_analytics.tenants as tenant on session.usename in (tenant.schema_name, tenant.reader_name)
            left join kiket_analytics.leases as lease on lease.schema_name = tenant.schema_name
            where lease.worker is null or lease.expires_at < now()
        ),
        statement_seconds,
        idle_seconds
    )
$$;

alter function kiket_analytics.set_up_login(text, text, integer, text[], text) owner to kiket_provisioner;
alter function kiket_analytics.is_ours(text) owner to kiket_provisioner;
alter function kiket_analytics.provision_tenant(
    bigint, text, text, integer, integer, integer, integer, integer, bigint, text
) owner to kiket_provisioner;
alter function kiket_analytics.provision_shared(text, integer, integer, integer, integer, integer, bigint)
    owner to kiket_provisioner;
alter function kiket_analytics.lend_logins(text) owner to kiket_provisioner;
alter function kiket_analytics.take_back_logins(name[]) owner to kiket_provisioner;
alter function kiket_analytics.drop_tenant(text) owner to kiket_provisioner;
alter function kiket_analytics.end_tenant_sessions(text, boolean) owner to kiket_warden;
alter function kiket_analytics.end_overrunning_of(name[], double precision, double precision) owner to kiket_warden;
alter function kiket_analytics.end_overrunning_sessions(text, double precision, double precision) owner to kiket_warden;
alter function kiket_analytics.end_unattended_sessions(double precision, double precision) owner to kiket_warden;
alter function kiket_analytics.names_of_tenant(text, boolean) owner to kiket_warden;

revoke all on function
    kiket_analytics.hold_login(text),
    kiket_analytics.release_login(text),
    kiket_analytics.set_up_login(text, text, integer, text[], text),
    kiket_analytics.is_ours(text),
    kiket_analytics.provision_tenant(bigint, text, text, integer, integer, integer, integer, integer, bigint, text),
    kiket_analytics.provision_shared(text, integer, integer, integer, integer, integer, bigint),
    kiket_analytics.lend_logins(text),
    kiket_analytics.take_back_logins(name[]),
    kiket_analytics.drop_tenant(text),
    kiket_analytics.end_tenant_sessions(text, boolean),
    kiket_analytics.end_overrunning_of(name[], double precision, double precision),
    kiket_analytics.end_overrunning_sessions(text, double precision, double precision),
    kiket_analytics.end_unattended_sessions(double precision, double precision),
    kiket_analytics.names_of_tenant(text, boolean)
from public;
grant execute on function
    kiket_analytics.provision_tenant(bigint, text, text, integer, integer, integer, integer, integer, bigint, text),
    kiket_analytics.provision_shared(text, integer, integer, integer, integer, integer, bigint),
    kiket_analytics.lend_logins(text),
    kiket_analytics.take_back_logins(name[]),
    kiket_analytics.drop_tenant(text),
    kiket_analytics.end_tenant_sessions(text, boolean),
    kiket_analytics.end_overrunning_sessions(text, double precision, double precision),
    kiket_analytics.end_unattended_sessions(double precision, double precision)
to kiket_ledger;
grant execute on function kiket_analytics.hold_login(text), kiket_analytics.release_login(text) to kiket_provisioner;
-- Whoever drops a tenant ends its sessions first; whoever lends its logins has to know their names.
grant execute on function
    kiket_analytics.end_tenant_sessions(text, boolean), kiket_analytics.names_of_tenant(text, boolean)
to kiket_provisioner;
