-- Give the role of the shared schema its password and settings; the name of that schema.
-- Parameters: those of the function (deploy/sql/roles.sql), which says who may run it concurrently.
select kiket_analytics.provision_shared(
    verifier => %(verifier)s,
    version => %(key_version)s,
    connection_limit => %(connection_limit)s,
    temp_megabytes => %(temp_megabytes)s,
    statement_seconds => %(statement_seconds)s,
    idle_seconds => %(idle_seconds)s,
    epoch => %(epoch)s
) as shared_schema
