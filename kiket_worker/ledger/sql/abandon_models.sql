-- Say of the models that dbt had begun when it was killed that they will not end any more. Parameters: run_id.
-- Run in the transaction that has locked the run's row, so no attempt records a model at the same time.
update kiket_analytics.run_models
set status = 'error', message = 'not finished'
where run_id = %(run_id)s and status = 'running'
