-- Change an organisation's analytics settings; what is null stays as it was.
-- Parameters: organization_id, enabled, refresh_interval_hours, use_plan_default. One row, so concurrent changes queue.
insert into kiket_analytics.analytics_settings as settings (organization_id, enabled, refresh_interval_hours)
values (%(organization_id)s, coalesce(%(enabled)s, false), %(refresh_interval_hours)s)
on conflict (organization_id) do update
set
    enabled = coalesce(%(enabled)s, settings.enabled),
    refresh_interval_hours = case
        when %(use_plan_default)s then null
        else coalesce(excluded.refresh_interval_hours, settings.refresh_interval_hours)
    end,
    updated_at = now()
