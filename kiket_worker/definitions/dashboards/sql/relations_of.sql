-- The relations of a schema and their columns, in the order of the columns. A relation without columns has one row.
--
-- Parameter: schema. Reads only the catalog, so that it may run beside anything; what a session sees of the catalog it
-- may see. A column of a domain has the domain's base type, as which it is compared. By the dependencies, which have an
-- index: pg_class has none on the schema, and as many rows as there are tenants.
select
    c.relname::text as relation,
    a.attname::text as column_name,
    case
        when t.typtype = 'd' then pg_catalog.format_type(t.typbasetype, t.typtypmod)
        else pg_catalog.format_type(a.atttypid, a.atttypmod)
    end as column_type
from pg_catalog.pg_depend as d
inner join pg_catalog.pg_class as c on c.oid = d.objid
left join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_catalog.pg_type as t on t.oid = a.atttypid
where d.refclassid = 'pg_catalog.pg_namespace'::regclass
    and d.refobjid = (select n.oid from pg_catalog.pg_namespace as n where n.nspname = %(schema)s)
    and d.classid = 'pg_catalog.pg_class'::regclass
    and c.relkind in ('r', 'p', 'v', 'm', 'f')
order by c.relname, a.attnum
