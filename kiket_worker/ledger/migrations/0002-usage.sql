-- depends: 0001-runs
-- Usage events: what an organisation is charged for.
-- Locks: a share row exclusive lock on runs and run_models while the foreign keys are added; the table is new and
-- empty, so it is held for milliseconds.

create table kiket_analytics.usage_events (
    id bigint primary key generated always as identity,
    organization_id bigint not null,
    project_id bigint,
    metric text not null,
    quantity numeric not null check (quantity >= 0),
    unit text not null,
    recorded_at timestamptz not null default now(),
    metadata jsonb not null default '{}',
    run_id uuid,
    model_id text,
    -- Always true: the other half of the reference to runs.billable.
    billable boolean not null default true check (billable),
    constraint usage_events_dbt_run_names_its_model check (
        metric <> 'analytics_dbt_run' or (run_id is not null and model_id is not null)
    ),
    -- Invariant 2: the run exists, is this organisation's, succeeded, and all its artifacts are stored.
    constraint usage_events_run_is_billable foreign key (run_id, organization_id, billable)
        references kiket_analytics.runs (run_id, organization_id, billable),
    constraint usage_events_model_of_run foreign key (run_id, model_id)
        references kiket_analytics.run_models (run_id, model_id),
    constraint usage_events_one_per_model unique (run_id, model_id)
);
create index usage_events_by_organization on kiket_analytics.usage_events (organization_id, recorded_at);
