-- Write down what dbt has built in a schema. Parameters: schema_name, bundle_digest, relations.
-- By the schema's leaseholder only, whose run's row the caller has locked.
insert into kiket_analytics.built_relations (schema_name, bundle_digest, relations)
values (%(schema_name)s, %(bundle_digest)s, %(relations)s)
on conflict (schema_name) do update
set bundle_digest = excluded.bundle_digest, relations = excluded.relations
