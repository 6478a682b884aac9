-- Make or mend an organisation's schema and roles; null, or the owner of a schema that is somebody else's.
-- Parameters: those of the function (deploy/sql/roles.sql), which says who may run it concurrently.
select kiket_analytics.provision_tenant(
    tenant_id => %(organization_id)s,
    verifier => %(verifier)s,
    reader_verifier => %(reader_verifier)s,
    version => %(key_version)s,
    connection_limit => %(connection_limit)s,
    temp_megabytes => %(temp_megabytes)s,
    statement_seconds => %(statement_seconds)s,
    idle_seconds => %(idle_seconds)s,
    epoch => %(epoch)s,
    probe_slug => %(probe_slug)s
) as foreign_owner
