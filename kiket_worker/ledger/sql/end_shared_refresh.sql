-- Write down how a refresh of the shared schema ended.
-- Parameters: refresh_id, outcome, error_kind, error_message, artifacts_location. Only its own worker ends it, and
-- not after a later one has taken the lease (fencing).
update kiket_analytics.shared_refreshes as refresh
set
    outcome = %(outcome)s,
    error_kind = %(error_kind)s,
    error_message = %(error_message)s,
    artifacts_location = %(artifacts_location)s,
    finished_at = now()
from kiket_analytics.leases as lease
where refresh.refresh_id = %(refresh_id)s
    and refresh.outcome is null
    and lease.schema_name = refresh.schema_name
    and lease.epoch = refresh.lease_epoch
