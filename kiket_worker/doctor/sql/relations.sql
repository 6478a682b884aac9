-- What there is in an organisation's schema, and whose it is. Parameters: schema_name. Reads the catalog only.
select relname, pg_get_userbyid(relowner) as owner
from pg_class
join pg_namespace on pg_namespace.oid = relnamespace
where nspname = %(schema_name)s and relkind in ('r', 'v', 'm', 'p', 'f')
order by relname
