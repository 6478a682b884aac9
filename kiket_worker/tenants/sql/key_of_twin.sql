-- Whose a read-only twin is, and with which version of the key its password was made; no row where there is no such
-- twin. Parameter: reader_name. Reads only.
select organization_id, key_version
from kiket_analytics.tenants
where reader_name = %(reader_name)s
