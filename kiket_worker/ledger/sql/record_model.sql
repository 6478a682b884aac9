-- Record how far one model of a run is; give a row unless the attempt's epoch is no longer the run's.
-- Parameters: run_id, lease_epoch, model_id, status, duration_seconds, rows_affected, message.
-- The run's row is share-locked, so that no other attempt can take it over between the check and the write.
with held as (
    select run_id from kiket_analytics.runs
    where run_id = %(run_id)s and lease_epoch = %(lease_epoch)s and status in ('running', 'built', 'archived')
    for share
)
insert into kiket_analytics.run_models (run_id, model_id, status, duration_seconds, rows_affected, message)
select run_id, %(model_id)s, %(status)s, %(duration_seconds)s, %(rows_affected)s, %(message)s from held
on conflict (run_id, model_id) do update
set
    status = excluded.status,
    duration_seconds = excluded.duration_seconds,
    rows_affected = excluded.rows_affected,
    message = excluded.message
returning run_id
