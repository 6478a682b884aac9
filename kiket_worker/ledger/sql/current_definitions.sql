-- The current version of an organisation's definitions; no row where nothing was ever published.
-- Parameters: organization_id. Reads only: a version that commits later is the next one.
select *
from kiket_analytics.definition_versions
where organization_id = %(organization_id)s
order by version desc
limit 1
