-- Put a run back of which only its artifacts are left, as one that waits; the caller takes it through its states.
-- Parameters: run_id, organization_id, organization_slug, queued_at. Gives the run, or no row where the ledger has it or
-- where another run of the organisation is active, which the unique indexes would refuse.
insert into kiket_analytics.runs (run_id, organization_id, organization_slug, reason, requested_by, queued_at)
select %(run_id)s, %(organization_id)s, %(organization_slug)s, 'retry', 'recovery', %(queued_at)s
where not exists (
    select from kiket_analytics.runs as run
    where run.organization_id = %(organization_id)s and run.status in ('queued', 'running', 'built', 'archived')
)
on conflict do nothing
returning *
