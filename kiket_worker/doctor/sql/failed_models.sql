-- The models of a run that failed, with what Postgres said. Parameters: run_id. Reads only.
select model_id, message from kiket_analytics.run_models
where run_id = %(run_id)s and status = 'error' and message is not null
order by model_id
