-- Keep how a gate was asked for and how Postgres reads it, so that a later change can be told.
-- Parameters: name, source. Run by `migrate --roles`, in the transaction that has just made the gate.
insert into kiket_analytics.gates (view_name, source, definition)
values (
    %(name)s, %(source)s, pg_get_viewdef(to_regclass('analytics_raw.' || quote_ident(%(name)s)))
)
on conflict (view_name) do update set source = excluded.source, definition = excluded.definition
