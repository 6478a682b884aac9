-- depends: 0005-engine
-- A run continues its caller's trace, and an organisation may have its docs with every run.
-- Locks: runs and analytics_settings exclusively, for as long as a catalog row takes to write: the default is constant.
alter table kiket_analytics.runs
    add column traceparent text,
    add constraint runs_traceparent_is_one
        check (traceparent ~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$') not valid;
alter table kiket_analytics.runs validate constraint runs_traceparent_is_one;
alter table kiket_analytics.analytics_settings add column docs boolean not null default false;
