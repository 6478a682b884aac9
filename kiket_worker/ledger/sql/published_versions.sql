-- The newest versions of an organisation's definitions. Parameters: organization_id, version_limit. Reads only.
select *
from kiket_analytics.definition_versions
where organization_id = %(organization_id)s
order by version desc
limit %(version_limit)s
