-- The models of a run, by id. Parameters: run_id.
-- Reads only: an executing run's models are as far as they are recorded.
select model_id, status, duration_seconds, rows_affected, message, started_at
from kiket_analytics.run_models
where run_id = %(run_id)s
order by model_id
