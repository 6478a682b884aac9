-- The run of an organisation that waits for its first attempt, if one does. Parameters: organization_id.
-- Reads only, and locks nothing: a ticker may publish it too, and a second message does no harm.
select run_id, organization_slug, reason
from kiket_analytics.runs
where organization_id = %(organization_id)s and status = 'queued'
