-- depends: 0002-usage
-- Attempts one by one, retries, hand-backs and quarantine.
-- Locks: an access exclusive lock on runs and on analytics_settings for the time of catalog changes only: the new
-- columns have constant defaults, so no row is rewritten, and the new check is first added as not valid.

alter table kiket_analytics.runs
    -- A retry waits until then; null: nothing waits.
    add column not_before timestamptz,
    -- Attempts that ended without a word: their worker died, or was cut off for longer than its lease.
    add column crashes integer not null default 0,
    -- The last attempt was given back unfinished by a worker that had to end: the next one takes its number again.
    add column handed_back boolean not null default false;

alter table kiket_analytics.runs
    add constraint runs_crashes_are_counted check (crashes between 0 and attempt) not valid;
alter table kiket_analytics.runs validate constraint runs_crashes_are_counted;

-- What the ticker looks through every second: the runs that have not ended, however many have.
create index runs_not_ended on kiket_analytics.runs (urgency desc nulls first, queued_at)
    where status in ('queued', 'running', 'built', 'archived');

create table kiket_analytics.attempts (
    run_id uuid not null references kiket_analytics.runs (run_id),
    lease_epoch bigint not null,
    attempt integer not null check (attempt > 0),
    worker text not null,
    started_at timestamptz not null default now(),
    finished_at timestamptz,
    -- Null while it goes on.
    outcome text check (outcome in ('succeeded', 'failed', 'cancelled', 'retried', 'handed_back', 'crashed')),
    error_kind text,
    error_message text,
    -- Not the attempt's number: one that was handed back and the one that follows share it.
    primary key (run_id, lease_epoch),
    constraint attempts_ended_has_outcome check ((finished_at is null) = (outcome is null))
);
create unique index attempts_one_open_per_run on kiket_analytics.attempts (run_id) where outcome is null;

alter table kiket_analytics.analytics_settings
    add column quarantined_at timestamptz,
    add column quarantine_reason text,
    add constraint settings_quarantine_has_reason check ((quarantined_at is null) = (quarantine_reason is null));
