-- Begin the next attempt of a run whose row the caller has locked; give the run as it then is, and the definitions that
-- it builds: those that are current now, which are another attempt's or a later run's when they change.
-- Parameters: run_id, status, lease_epoch, worker. An attempt that its worker left open is closed as a crash.
with crashed as (
    update kiket_analytics.attempts
    set outcome = 'crashed', finished_at = now()
    where run_id = %(run_id)s and outcome is null
    returning run_id
),
begun as (
    update kiket_analytics.runs as run
    set
        status = %(status)s,
        attempt = run.attempt + case when run.handed_back then 0 else 1 end,
        crashes = run.crashes + (select count(*) from crashed),
        handed_back = false,
        not_before = null,
        lease_epoch = %(lease_epoch)s,
        worker = %(worker)s,
        started_at = now()
    where run.run_id = %(run_id)s
    returning *
)
select begun.*, definitions.version as definitions_version, definitions.overlays
from begun
left join lateral (
    select published.version, published.overlays
    from kiket_analytics.definition_versions as published
    where published.organization_id = begun.organization_id
    order by published.version desc
    limit 1
) as definitions on true
