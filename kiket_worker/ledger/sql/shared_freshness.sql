-- Whether the shared schema was ever built, whether it is due, and whether the newest try failed a moment ago.
-- Parameters: schema_name, bundle_digest, interval_hours, retry_seconds. Reads only; time is the database's. A try that
-- goes on, or whose worker was killed, counts as none: the lease tells whether somebody is at it.
select
    succeeded.started_at is not null as is_built,
    succeeded.started_at is null
        or succeeded.bundle_digest <> %(bundle_digest)s
        or succeeded.started_at + make_interval(hours => %(interval_hours)s) <= now() as is_due,
    coalesce(
        failed.bundle_digest = %(bundle_digest)s
        and failed.finished_at + make_interval(secs => %(retry_seconds)s) > now(),
        false
    ) as tried_lately
from (values (1)) as only_row (number)
left join lateral (
    select * from kiket_analytics.shared_refreshes
    where schema_name = %(schema_name)s and outcome = 'succeeded'
    order by started_at desc
    limit 1
) as succeeded on true
left join lateral (
    select * from kiket_analytics.shared_refreshes
    where schema_name = %(schema_name)s and outcome = 'failed'
        and started_at > coalesce(succeeded.started_at, '-infinity')
    order by started_at desc
    limit 1
) as failed on true
