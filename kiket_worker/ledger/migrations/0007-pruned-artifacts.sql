-- depends: 0006-traces-and-docs
-- Whose artifacts were removed because of their age. Not a column of runs: ended runs do not change (0001).
-- Locks: a share row exclusive lock on runs while the foreign key is added; the table is new and empty, so it is held
-- for milliseconds.

create table kiket_analytics.pruned_artifacts (
    run_id uuid primary key references kiket_analytics.runs (run_id),
    pruned_at timestamptz not null default now()
);
