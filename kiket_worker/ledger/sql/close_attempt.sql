-- Close the attempt of a claim. Parameters: run_id, lease_epoch, outcome, error_kind, error_message.
-- The caller has locked the run's row; an attempt that a takeover has closed as a crash stays so.
update kiket_analytics.attempts
set outcome = %(outcome)s, finished_at = now(), error_kind = %(error_kind)s, error_message = %(error_message)s
where run_id = %(run_id)s and lease_epoch = %(lease_epoch)s and outcome is null
