-- depends: 0003-attempts
-- Database roles of organisations, the gates that they read through, and the history of shared refreshes.
-- Locks: only objects that this migration creates; nothing existing is locked.

-- Whose session is whose: the gates ask this table, and nothing that a session can say of itself.
create table kiket_analytics.tenants (
    -- The role that owns the schema is named as the schema.
    schema_name text primary key check (length(schema_name) <= 63),
    reader_name text unique check (length(reader_name) <= 63),
    -- Null: the shared schema, whose role sees no organisation's rows.
    organization_id bigint,
    -- The key from which the passwords of both roles are derived now.
    key_version integer not null check (key_version > 0),
    connection_limit integer not null check (connection_limit > 0),
    provisioned_at timestamptz not null default now(),
    constraint tenants_have_readers check ((organization_id is null) = (reader_name is null)),
    constraint tenants_names_differ check (schema_name <> reader_name)
);
create index tenants_by_organization on kiket_analytics.tenants (organization_id);

-- The gates as they were last installed, to tell what somebody has changed since.
create table kiket_analytics.gates (
    view_name text primary key,
    -- The statement that the list of gates asked for, and Postgres' own reading of it.
    source text not null,
    definition text not null
);

-- What `migrate --roles` has last set up.
create table kiket_analytics.roles (
    only_row boolean primary key default true check (only_row),
    level integer not null,
    shared_schema text not null,
    applied_at timestamptz not null default now()
);

create table kiket_analytics.shared_refreshes (
    refresh_id uuid primary key default kiket_analytics.uuid_v7(),
    schema_name text not null,
    bundle_digest text not null,
    lease_epoch bigint not null,
    worker text not null,
    started_at timestamptz not null default now(),
    finished_at timestamptz,
    -- Null while it goes on, and for ever when its worker was killed.
    outcome text check (outcome in ('succeeded', 'failed')),
    error_kind text,
    error_message text,
    artifacts_location text,
    constraint shared_refreshes_ended_has_outcome check ((finished_at is null) = (outcome is null)),
    constraint shared_refreshes_failed_has_error check (
        (outcome is not distinct from 'failed') = (error_kind is not null and error_message is not null)
    )
);
create index shared_refreshes_by_time on kiket_analytics.shared_refreshes (schema_name, started_at desc);
