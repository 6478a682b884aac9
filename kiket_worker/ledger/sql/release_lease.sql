-- Give a lease back. Parameters: schema_name, epoch.
-- Fenced: nothing happens when it is somebody else's by now.
update kiket_analytics.leases
set run_id = null, worker = null, expires_at = null
where schema_name = %(schema_name)s and epoch = %(epoch)s
