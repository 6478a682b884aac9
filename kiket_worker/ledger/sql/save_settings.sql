-- Change an organisation's analytics settings; what is null stays as it was.
-- Parameters: organization_id, enabled, refresh_interval_hours, use_plan_default, release (from quarantine), engine
-- (`default` drops its own), docs.
-- One row, so concurrent changes queue.
insert into kiket_analytics.analytics_settings as settings (
    organization_id, enabled, refresh_interval_hours, engine, docs
)
values (
    %(organization_id)s, coalesce(%(enabled)s, false), %(refresh_interval_hours)s, nullif(%(engine)s::text, 'default'),
    coalesce(%(docs)s, false)
)
on conflict (organization_id) do update
set
    enabled = coalesce(%(enabled)s, settings.enabled),
    refresh_interval_hours = case
        when %(use_plan_default)s then null
        else coalesce(excluded.refresh_interval_hours, settings.refresh_interval_hours)
    end,
    engine = case when %(engine)s::text = 'default' then null else coalesce(excluded.engine, settings.engine) end,
    docs = coalesce(%(docs)s, settings.docs),
    quarantined_at = case when %(release)s then null else settings.quarantined_at end,
    quarantine_reason = case when %(release)s then null else settings.quarantine_reason end,
    updated_at = now()
