-- Relations in an organisation's schema that are named as its models and owned by another role than its own.
-- Parameters: schema_name. Platform tables that a custom data module keeps in the schema are no models, and not given.
-- Reads only.
select relation.relname, relation.relkind, pg_get_userbyid(relation.relowner) as owner
from pg_class as relation
join pg_namespace on pg_namespace.oid = relation.relnamespace
where pg_namespace.nspname = %(schema_name)s
    and relation.relkind in ('r', 'v', 'm')
    and pg_get_userbyid(relation.relowner) <> %(schema_name)s
    and exists (
        select
        from kiket_analytics.leases as lease
        join kiket_analytics.runs as run on run.organization_id = lease.organization_id
        join kiket_analytics.run_models as model on model.run_id = run.run_id
        where lease.schema_name = %(schema_name)s and split_part(model.model_id, '.', 3) = relation.relname
    )
order by relation.relname
