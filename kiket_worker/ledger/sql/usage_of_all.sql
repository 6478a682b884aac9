-- Usage of all organisations together by metric and by day, week (from Monday) or month, the oldest first.
-- Parameters: first_day (inclusive) and last_day (exclusive), of UTC; period: day, week or month. Reads only.
select date_trunc(%(period)s, day::timestamp)::date as start, metric, unit, sum(quantity) as quantity
from kiket_analytics.usage_of_all
where day >= %(first_day)s and day < %(last_day)s
group by 1, 2, 3
order by 1, 2, 3
