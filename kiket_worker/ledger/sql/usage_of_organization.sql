-- Usage of one organisation by metric and by day, week (from Monday) or month, the oldest first. Days are UTC's.
-- Parameters: organization_id; first_day (inclusive) and last_day (exclusive); period: day, week or month. Reads only.
select date_trunc(%(period)s, day::timestamp)::date as start, metric, unit, sum(quantity) as quantity
from kiket_analytics.usage_daily
where organization_id = %(organization_id)s and day >= %(first_day)s and day < %(last_day)s
group by 1, 2, 3
order by 1, 2, 3
