-- The runs that workers have in hand, the longest first. Parameters: run_limit. Reads only.
select *
from kiket_analytics.runs
where status in ('running', 'built', 'archived')
order by started_at, run_id
limit %(run_limit)s
