-- Make the ledger's schema, and in it the table that migrations lock. Takes no parameters.
-- Run by every migration. Of several that run at once, one creates them; `if not exists` does not see what the others
-- have not committed, so they wait for it, meet its rows in the catalog, and go on.
do $$
begin
    begin
        create schema if not exists kiket_analytics;
    exception when unique_violation or duplicate_schema then
        null;
    end;
    begin
        create table if not exists kiket_analytics.migration_lock ();
    exception when unique_violation or duplicate_table then
        null;
    end;
end
$$
