-- Runs that ended, by hour and by how, the oldest hour first. Parameters: hours, how many back. Reads only.
select hour, status, sum(runs)::bigint as runs, sum(seconds) as seconds
from kiket_analytics.run_hours
where hour > now() - make_interval(hours => %(hours)s)
group by hour, status
order by hour, status
