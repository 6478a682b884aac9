-- Up to which level `migrate --roles` has set up roles in this database, null if never, and which of them this server has
-- not. Parameters: roles, their names. Reads only.
select
    (select level from kiket_analytics.roles) as level,
    array(
        select wanted.name
        from unnest(%(roles)s::text[]) as wanted (name)
        where not exists (select from pg_roles where rolname = wanted.name)
    ) as absent
