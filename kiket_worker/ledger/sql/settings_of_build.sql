-- How an organisation is built, and what dbt has built in its schema before; one row, whatever there is.
-- Parameters: organization_id, schema_name. Reads only.
select
    settings.engine,
    coalesce(settings.docs, false) as docs,
    built.bundle_digest,
    built.relations
from (values (%(organization_id)s::bigint)) as organization (id)
left join kiket_analytics.analytics_settings as settings on settings.organization_id = organization.id
left join kiket_analytics.built_relations as built on built.schema_name = %(schema_name)s
