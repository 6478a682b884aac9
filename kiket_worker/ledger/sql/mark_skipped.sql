-- End a run that cannot be executed. Parameters: run_id, error_kind, error_message.
-- Not fenced: the caller has locked the run's row and found it without an executing attempt.
update kiket_analytics.runs
set status = 'skipped', finished_at = now(), error_kind = %(error_kind)s, error_message = %(error_message)s
where run_id = %(run_id)s
