-- One usage event for each model of a run that succeeded; give how many.
-- Parameters: run_id; recorded_at, or null for now. Runs in the transaction that makes the run succeeded: the foreign key
-- to runs.billable refuses it before, and the unique constraint refuses a second time.
with recorded as (
    insert into kiket_analytics.usage_events (
        organization_id, metric, quantity, unit, recorded_at, metadata, run_id, model_id
    )
    select
        run.organization_id,
        'analytics_dbt_run',
        1,
        'model_run',
        coalesce(%(recorded_at)s, now()),
        jsonb_build_object(
            'model_id', model.model_id,
            'status', model.status,
            'duration_seconds', model.duration_seconds
        ),
        run.run_id,
        model.model_id
    from kiket_analytics.runs as run
    join kiket_analytics.run_models as model on model.run_id = run.run_id
    where run.run_id = %(run_id)s
    returning id
)
select count(*) as usage_events from recorded
