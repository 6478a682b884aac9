-- depends: 0011-console
-- Who is due is found by an index, so that a tick costs by who is due and not by how many organisations there are.
-- Locks: analytics_settings and ticker exclusively, for as long as a catalog row takes to write (the columns have no
-- default); then analytics_settings and leases against writing while the indexes are built, about two seconds for a
-- million rows of each.

-- An index cannot reach the platform's table, so what it needs of it is repeated here: the default interval of the plan
-- that the organisation had when a ticker last compared it. Null: not compared yet, or a plan without default.
alter table kiket_analytics.analytics_settings add column plan_hours integer check (plan_hours > 0);
-- Up to which organisation the plans have been compared; the next tick goes on from there. Null: from the first.
alter table kiket_analytics.ticker add column compared_to bigint;

-- When an organisation becomes due as far as settings know: `due.sql` looks here first, and then asks for the
-- plan that counts. Without time zone, as only that is immutable.
create index settings_by_due on kiket_analytics.analytics_settings ((
    coalesce(
        (last_run_at at time zone 'UTC') + make_interval(hours => coalesce(refresh_interval_hours, plan_hours)),
        '-infinity'
    )
)) where enabled and quarantined_at is null;

-- For the metrics, which count the few and need not pass the many. Not by its time, so that renewing a lease writes no
-- index.
create index leases_held on kiket_analytics.leases (schema_name) where worker is not null;
create index settings_in_quarantine on kiket_analytics.analytics_settings (organization_id)
    where quarantined_at is not null;
