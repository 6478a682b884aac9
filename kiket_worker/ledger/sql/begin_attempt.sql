-- Begin the next attempt of a run whose row the caller has locked; give the run as it then is.
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
select * from begun
