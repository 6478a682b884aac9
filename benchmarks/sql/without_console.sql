-- Take from a ledger what migrations 0011 and 0014 have added for the console, and give it the indexes of before. Takes
-- no parameters. For comparison only.
drop trigger usage_events_add_up on kiket_analytics.usage_events;
drop trigger runs_count_ended on kiket_analytics.runs;
drop index kiket_analytics.runs_newest;
drop index kiket_analytics.runs_newest_of_organization;
drop index kiket_analytics.runs_succeeded;
drop index kiket_analytics.runs_succeeded_of_organization;
drop index kiket_analytics.runs_unsuccessful;
drop index kiket_analytics.runs_unsuccessful_of_organization;
drop index kiket_analytics.runs_failed;
create index runs_by_organization on kiket_analytics.runs (organization_id, queued_at desc);
create index runs_by_time on kiket_analytics.runs (queued_at desc);
