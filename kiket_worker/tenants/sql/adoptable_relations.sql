-- Relations in an organisation's schema that are named as its models and owned by another role than its own.
-- Parameters: schema_name. Platform tables that a custom data module keeps in the schema are no models, and not given.
-- Reads only; the relations by their dependencies, as pg_class has no index on the schema.
select relation.relname, relation.relkind, pg_get_userbyid(relation.relowner) as owner
from pg_depend
join pg_class as relation on relation.oid = pg_depend.objid
where pg_depend.refclassid = 'pg_namespace'::regclass
    and pg_depend.refobjid = (select oid from pg_namespace where nspname = %(schema_name)s::name)
    and pg_depend.classid = 'pg_class'::regclass
    and relation.relkind in ('r', 'v', 'm')
    and relation.relowner is distinct from (select oid from pg_roles where rolname = %(schema_name)s::name)
    and exists (
        select
        from kiket_analytics.leases as lease
        join kiket_analytics.runs as run on run.organization_id = lease.organization_id
        join kiket_analytics.run_models as model on model.run_id = run.run_id
        where lease.schema_name = %(schema_name)s and split_part(model.model_id, '.', 3) = relation.relname
    )
order by relation.relname
