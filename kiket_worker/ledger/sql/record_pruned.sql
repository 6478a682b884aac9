-- Write down that sets are about to be removed. Parameters: ids of runs, and locations of the sets: a run of which
-- another attempt's set is the one that counts keeps its own. May run concurrently: the first one's time stays.
insert into kiket_analytics.pruned_artifacts (run_id)
select run_id
from kiket_analytics.runs
where run_id = any(%(ids)s) and artifacts_location = any(%(locations)s)
on conflict do nothing
