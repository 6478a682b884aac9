-- depends: 0012-due-index
-- When each model began; and without the indexes of runs that those of the console have replaced.
-- Locks: run_models and runs exclusively, for as long as catalog rows take to write. By itself, as nobody could even read
-- runs, and so renew a lease, while sums are made.
alter table kiket_analytics.run_models add column started_at timestamptz;
drop index kiket_analytics.runs_by_time;
drop index kiket_analytics.runs_by_organization;
