-- The runs that have failed since a moment, the newest failure first. Parameters: since; run_limit. Reads only.
select *
from kiket_analytics.runs
where status = 'failed' and finished_at >= %(since)s
order by finished_at desc, run_id desc
limit %(run_limit)s
