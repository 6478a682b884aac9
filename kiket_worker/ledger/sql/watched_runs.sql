-- How far runs are, each with its models. Parameters: run_ids. Reads only; asked again and again while somebody watches.
select
    run.*,
    coalesce(
        (
            select jsonb_agg(
                jsonb_build_object(
                    'model_id', model.model_id,
                    'status', model.status,
                    'duration_seconds', model.duration_seconds,
                    'rows_affected', model.rows_affected,
                    'message', model.message,
                    'started_at', model.started_at
                )
                order by model.model_id
            )
            from kiket_analytics.run_models as model
            where model.run_id = run.run_id
        ),
        '[]'
    ) as models
from kiket_analytics.runs as run
where run.run_id = any(%(run_ids)s)
