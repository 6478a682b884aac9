-- The ledger's first tables: settings, runs, models of runs, leases, the ticker's row.
-- Locks: only objects that this migration creates; nothing existing is locked.

create function kiket_analytics.uuid_v7() returns uuid
language sql volatile parallel safe
as $$
    -- RFC 9562, section 5.7: 48 bits of Unix milliseconds, then version, variant and random bits. A random
    -- version 4 UUID has the variant already; its first six bytes become the time, and two bits turn 4 into 7.
    select encode(
        set_bit(set_bit(
            overlay(
                uuid_send(gen_random_uuid())
                placing substring(int8send(floor(extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
                from 1 for 6
            ),
            52, 1), 53, 1),
        'hex')::uuid
$$;

create table kiket_analytics.analytics_settings (
    -- No foreign key to the platform's table: it would put triggers on a table that the worker never alters.
    organization_id bigint primary key,
    enabled boolean not null,
    refresh_interval_hours integer
        constraint refresh_interval_hours_in_range check (refresh_interval_hours between 1 and 8760),
    last_run_at timestamptz,
    updated_at timestamptz not null default now()
);

create table kiket_analytics.runs (
    run_id uuid primary key default kiket_analytics.uuid_v7(),
    organization_id bigint not null,
    organization_slug text not null,
    reason text not null check (reason in ('scheduled', 'manual', 'sync', 'retry')),
    requested_by text,
    forced boolean not null default false,
    full_refresh boolean not null default false,
    docs boolean not null default false,
    selection text[],
    -- How long overdue at queueing, in intervals; requests have none and do not wait for the schedule.
    urgency double precision,
    status text not null default 'queued',
    attempt integer not null default 0 check (attempt >= 0),
    -- The lease's epoch under which the current attempt may write: the fencing token.
    lease_epoch bigint,
    worker text,
    queued_at timestamptz not null default now(),
    published_at timestamptz,
    started_at timestamptz,
    built_at timestamptz,
    archived_at timestamptz,
    finished_at timestamptz,
    cancel_requested_at timestamptz,
    artifacts_location text,
    artifacts_index_sha256 text check (artifacts_index_sha256 ~ '^[0-9a-f]{64}$'),
    error_kind text,
    error_message text,
    -- True for the only runs that usage may be charged for: succeeded, and every artifact stored (the index, which
    -- names them all, is written last). Usage events refer to it, so the database refuses any other.
    billable boolean not null generated always as (
        coalesce(status = 'succeeded' and artifacts_index_sha256 is not null, false)
    ) stored,
    constraint runs_status_is_known check (
        status in ('queued', 'running', 'built', 'archived', 'succeeded', 'failed', 'cancelled', 'skipped')
    ),
    constraint runs_started_has_lease check (
        status not in ('running', 'built', 'archived', 'succeeded')
        or (started_at is not null and lease_epoch is not null and attempt > 0)
    ),
    constraint runs_built_has_time check (status not in ('built', 'archived', 'succeeded') or built_at is not null),
    constraint runs_archived_has_index check (
        status not in ('archived', 'succeeded')
        or (archived_at is not null and artifacts_location is not null and artifacts_index_sha256 is not null)
    ),
    constraint runs_finished_has_time check (
        (status in ('succeeded', 'failed', 'cancelled', 'skipped')) = (finished_at is not null)
    ),
    constraint runs_failed_has_error check (
        (status in ('failed', 'skipped')) = (error_kind is not null and error_message is not null)
    ),
    unique (run_id, organization_id, billable)
);

-- Invariant 1: one run of an organisation is executed at a time, and one more waits at most (requests coalesce).
create unique index runs_one_queued_per_organization
    on kiket_analytics.runs (organization_id) where status = 'queued';
create unique index runs_one_executing_per_organization
    on kiket_analytics.runs (organization_id) where status in ('running', 'built', 'archived');
create index runs_by_organization on kiket_analytics.runs (organization_id, queued_at desc);
create index runs_by_time on kiket_analytics.runs (queued_at desc);

-- Whether a status may follow another cannot be said by a check, which sees the new row only: hence a trigger.
create function kiket_analytics.refuse_run_transition() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op = 'INSERT' then
        if new.status <> 'queued' then
            raise exception 'a run begins as queued, not as %', new.status
                using errcode = 'check_violation', constraint = 'runs_transition';
        end if;
        return new;
    end if;
    if (new.run_id, new.organization_id) is distinct from (old.run_id, old.organization_id) then
        raise exception 'run % keeps its id and its organisation', old.run_id
            using errcode = 'check_violation', constraint = 'runs_transition';
    end if;
    if old.status in ('succeeded', 'failed', 'cancelled', 'skipped') then
        raise exception 'run % is %, and ended runs do not change', old.run_id, old.status
            using errcode = 'check_violation', constraint = 'runs_transition';
    end if;
    if coalesce(new.lease_epoch, 0) < old.lease_epoch or new.attempt < old.attempt then
        raise exception 'run % does not go back to an earlier attempt', old.run_id
            using errcode = 'check_violation', constraint = 'runs_transition';
    end if;
    -- built may go back to running: a later attempt takes over a crashed one, whose built files are lost with it.
    if new.status <> old.status and (old.status, new.status) not in (
        ('queued', 'running'), ('running', 'built'), ('built', 'archived'), ('archived', 'succeeded'),
        ('queued', 'cancelled'), ('running', 'cancelled'), ('built', 'cancelled'), ('archived', 'cancelled'),
        ('running', 'failed'), ('built', 'failed'), ('archived', 'failed'),
        ('queued', 'skipped'), ('built', 'running')
    ) then
        raise exception 'run % cannot go from % to %', old.run_id, old.status, new.status
            using errcode = 'check_violation', constraint = 'runs_transition';
    end if;
    return new;
end
$$;

create trigger runs_transition before insert or update on kiket_analytics.runs
    for each row execute function kiket_analytics.refuse_run_transition();

-- An idempotency key names one run of its organisation, however often the request is repeated.
create table kiket_analytics.run_requests (
    organization_id bigint not null,
    idempotency_key text not null check (length(idempotency_key) between 1 and 255),
    run_id uuid not null references kiket_analytics.runs (run_id),
    requested_at timestamptz not null default now(),
    primary key (organization_id, idempotency_key)
);
create index run_requests_by_run on kiket_analytics.run_requests (run_id);

create table kiket_analytics.run_models (
    run_id uuid not null references kiket_analytics.runs (run_id),
    model_id text not null,
    status text not null check (status in ('running', 'success', 'error', 'skipped')),
    duration_seconds double precision check (duration_seconds >= 0),
    rows_affected bigint,
    message text,
    primary key (run_id, model_id)
);

-- One row per schema that was ever written, so that the epoch never goes back. The key is the schema and not the
-- organisation: two organisations whose slugs give one schema exclude each other here too.
create table kiket_analytics.leases (
    schema_name text primary key,
    -- Whose schema it is, for ever: another organisation's slug that gives the same name is refused. Null: shared.
    organization_id bigint,
    epoch bigint not null default 1 check (epoch > 0),
    run_id uuid unique references kiket_analytics.runs (run_id),
    worker text,
    acquired_at timestamptz not null default now(),
    expires_at timestamptz,
    constraint leases_held_or_free check (
        (worker is null) = (expires_at is null) and (worker is not null or run_id is null)
    )
);

create function kiket_analytics.refuse_lease_epoch() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op = 'TRUNCATE' then
        raise exception 'lease rows keep their epochs and are not deleted'
            using errcode = 'check_violation', constraint = 'leases_epoch';
    end if;
    if tg_op = 'DELETE' then
        raise exception 'the lease row of % keeps its epoch and is not deleted', old.schema_name
            using errcode = 'check_violation', constraint = 'leases_epoch';
    end if;
    if new.organization_id is distinct from old.organization_id or new.schema_name <> old.schema_name then
        raise exception 'schema % keeps its organisation', old.schema_name
            using errcode = 'check_violation', constraint = 'leases_epoch';
    end if;
    if new.epoch < old.epoch
        or (new.epoch = old.epoch and new.worker is not null
            and (new.worker, new.run_id) is distinct from (old.worker, old.run_id)) then
        raise exception 'the lease of % changes hands with a higher epoch only', old.schema_name
            using errcode = 'check_violation', constraint = 'leases_epoch';
    end if;
    return new;
end
$$;

create trigger leases_epoch before update or delete on kiket_analytics.leases
    for each row execute function kiket_analytics.refuse_lease_epoch();
create trigger leases_epoch_truncate before truncate on kiket_analytics.leases
    for each statement execute function kiket_analytics.refuse_lease_epoch();

-- The single row that tickers lock while they queue what is due: the second sees what the first has queued.
create table kiket_analytics.ticker (
    only_row boolean primary key default true check (only_row),
    ticked_at timestamptz
);
insert into kiket_analytics.ticker default values;
