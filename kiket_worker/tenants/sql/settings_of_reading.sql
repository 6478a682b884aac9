-- Settings of a transaction in which a twin only reads, until it ends. Parameter: milliseconds.
-- The last has Postgres look whether who asked is still there, and end the session if not: by then no time-out may be
-- left in a session that has lifted its own.
select
    pg_catalog.set_config('statement_timeout', %(milliseconds)s, true),
    pg_catalog.set_config('lock_timeout', %(milliseconds)s, true),
    pg_catalog.set_config('datestyle', 'ISO, YMD', true),
    pg_catalog.set_config('intervalstyle', 'postgres', true),
    pg_catalog.set_config('timezone', 'UTC', true),
    pg_catalog.set_config('client_connection_check_interval', '1s', true)
