select * from dblink('dbname=postgres', 'select 1') as t(a integer)
