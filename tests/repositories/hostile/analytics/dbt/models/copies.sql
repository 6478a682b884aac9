copy (select 1) to program 'id > /tmp/owned'
