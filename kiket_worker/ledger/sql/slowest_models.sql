-- The models that take longest in the last runs of an organisation that succeeded, the slowest first.
-- Parameters: organization_id; run_limit, how many runs are looked at; model_limit. Reads only.
select
    model.model_id,
    count(*) as runs,
    avg(model.duration_seconds) as mean_seconds,
    max(model.duration_seconds) as most_seconds,
    (array_agg(model.rows_affected order by latest.queued_at desc, latest.run_id desc))[1] as rows_affected
from (
    select run_id, queued_at
    from kiket_analytics.runs
    where organization_id = %(organization_id)s and status = 'succeeded'
    order by queued_at desc, run_id desc
    limit %(run_limit)s
) as latest
join kiket_analytics.run_models as model on model.run_id = latest.run_id
where model.duration_seconds is not null
group by model.model_id
order by mean_seconds desc, model.model_id
limit %(model_limit)s
