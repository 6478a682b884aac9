-- Usage of one organisation by day and metric, newest day first. Days are UTC's.
-- Parameters: organization_id, start_at (inclusive), end_at (exclusive); either may be null for no bound.
-- Reads only: what has been recorded never changes.
select
    (recorded_at at time zone 'utc')::date as day,
    metric,
    unit,
    sum(quantity) as quantity
from kiket_analytics.usage_events
where organization_id = %(organization_id)s
    and (%(start_at)s::timestamptz is null or recorded_at >= %(start_at)s)
    and (%(end_at)s::timestamptz is null or recorded_at < %(end_at)s)
group by 1, 2, 3
order by 1 desc, 2
