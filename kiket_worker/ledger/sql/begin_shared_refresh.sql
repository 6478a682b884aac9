-- Begin a refresh of the shared schema; give its id.
-- Parameters: schema_name, bundle_digest, lease_epoch, worker. The caller holds the schema's lease, so it is alone.
insert into kiket_analytics.shared_refreshes (schema_name, bundle_digest, lease_epoch, worker)
values (%(schema_name)s, %(bundle_digest)s, %(lease_epoch)s, %(worker)s)
returning refresh_id
