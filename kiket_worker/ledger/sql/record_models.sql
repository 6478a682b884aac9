-- Record how far models of a run are; give rows unless the attempt's epoch is no longer the run's.
-- Parameters: run_id, lease_epoch, models (a JSON array of model_id, status, duration_seconds, rows_affected, message,
-- started_at, null where it is not known: then one that is running begins now, and others keep what they have).
-- The run's row is share-locked, so that no other attempt can take it over between the check and the write.
with held as (
    select run_id from kiket_analytics.runs
    where run_id = %(run_id)s and lease_epoch = %(lease_epoch)s and status in ('running', 'built', 'archived')
    for share
)
insert into kiket_analytics.run_models as known (
    run_id, model_id, status, duration_seconds, rows_affected, message, started_at
)
select
    held.run_id,
    model.model_id,
    model.status,
    model.duration_seconds,
    model.rows_affected,
    model.message,
    coalesce(model.started_at, case when model.status = 'running' then now() end)
from held
cross join jsonb_to_recordset(%(models)s) as model (
    model_id text, status text, duration_seconds double precision, rows_affected bigint, message text,
    started_at timestamptz
)
on conflict (run_id, model_id) do update
set
    status = excluded.status,
    duration_seconds = excluded.duration_seconds,
    rows_affected = excluded.rows_affected,
    message = excluded.message,
    started_at = coalesce(excluded.started_at, known.started_at)
returning run_id
