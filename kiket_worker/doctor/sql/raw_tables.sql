-- The platform's tables. Takes no parameters; reads the catalog only.
select relname
from pg_class
where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f') and not relispartition
order by relname
