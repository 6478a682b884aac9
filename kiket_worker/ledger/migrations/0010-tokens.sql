-- depends: 0009-changelog-evaluations
-- Tokens of the console and the API.
-- Locks: only objects that this migration creates; nothing existing is locked.

create table kiket_analytics.tokens (
    token_id uuid primary key default kiket_analytics.uuid_v7(),
    -- Of the whole token. It has 256 random bits, so nobody guesses it from this, and no slow hash is needed.
    digest bytea not null unique check (length(digest) = 32),
    name text check (length(name) between 1 and 255),
    scope text not null check (scope in ('ops', 'organization')),
    -- No foreign key: it would put triggers on a table that the worker never alters. The token of an organisation that
    -- was removed opens nothing.
    organization_id bigint,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    revoked_at timestamptz,
    -- Written every five minutes at most.
    last_used_at timestamptz,
    constraint tokens_of_organizations_name_one check ((scope = 'organization') = (organization_id is not null))
) with (fillfactor = 90);
