-- depends: 0007-pruned-artifacts
-- What organisations have published, version by version, and what dbt has built of it in their schemas.
-- Locks: only objects that this migration creates; nothing existing is locked.

-- The newest version is the current one, so that switching an organisation is one new row; rows do not change. Two who
-- publish at once meet at the primary key: each asks for the version after the one that it has seen.
create table kiket_analytics.definition_versions (
    organization_id bigint not null,
    version integer not null check (version > 0),
    -- Every overlay of the version: its digest by its name.
    overlays jsonb not null check (jsonb_typeof(overlays) = 'object'),
    -- The one that was published with this version; none where an earlier version was gone back to.
    name text,
    author text,
    source_commit text,
    published_at timestamptz not null default now(),
    rolled_back_to integer check (rolled_back_to < version),
    -- Of the release's project with the overlays, as it was when the version came to be.
    bundle_digest text not null check (bundle_digest ~ '^[0-9a-f]{64}$'),
    primary key (organization_id, version),
    foreign key (organization_id, rolled_back_to)
        references kiket_analytics.definition_versions (organization_id, version),
    constraint definition_versions_are_published_or_rolled_back check ((name is null) = (rolled_back_to is not null))
);

create table kiket_analytics.built_relations (
    schema_name text primary key,
    -- Of the bundle whose run succeeded last and has left exactly these; none while there may be more than it has.
    bundle_digest text check (bundle_digest ~ '^[0-9a-f]{64}$'),
    -- What each relation was made as, by its name: view, table, …
    relations jsonb not null check (jsonb_typeof(relations) = 'object')
);
