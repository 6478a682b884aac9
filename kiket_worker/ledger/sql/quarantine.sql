-- Put an organisation into quarantine, whether it has analytics settings or not.
-- Parameters: organization_id, reason. One row, so concurrent changes queue; the last reason stays.
insert into kiket_analytics.analytics_settings as settings (
    organization_id, enabled, quarantined_at, quarantine_reason
)
values (%(organization_id)s, false, now(), %(reason)s)
on conflict (organization_id) do update
set quarantined_at = excluded.quarantined_at, quarantine_reason = excluded.quarantine_reason
