-- Whether the organisation of a run may be refreshed; no row when it was removed or renamed.
-- Parameters: organization_id, organization_slug. Reads only: a change that commits later counts for the next run.
select coalesce(settings.enabled, false) as enabled, settings.quarantine_reason
from public.organizations as organization
left join kiket_analytics.analytics_settings as settings on settings.organization_id = organization.id
where organization.id = %(organization_id)s and organization.slug = %(organization_slug)s
