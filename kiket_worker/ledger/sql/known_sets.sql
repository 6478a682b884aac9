-- What the ledger knows of sets in the store, which are named by their run or by their refresh of shared models.
-- Parameters: ids. Reads only.
-- A shared refresh that has not ended is one whose worker was killed: no other takes it over under its id.
select
    run_id as set_id,
    organization_slug as owner,
    artifacts_location as location,
    status = 'succeeded' as has_succeeded,
    finished_at is not null as has_ended,
    coalesce(finished_at, queued_at) as at
from kiket_analytics.runs
where run_id = any(%(ids)s)
union all
select
    refresh_id,
    schema_name,
    artifacts_location,
    outcome is not distinct from 'succeeded',
    true,
    coalesce(finished_at, started_at)
from kiket_analytics.shared_refreshes
where refresh_id = any(%(ids)s)
