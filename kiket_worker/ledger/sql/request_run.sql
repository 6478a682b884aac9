-- Queue a run for a request, or join the one that waits already; give its id and whether it is new.
-- Joining widens what waits: a full refresh stays one, selections are united, no selection means every model, and what
-- the schedule queued becomes the request, so that it no longer waits behind the schedule.
-- Parameters: the columns' names. Concurrent requests meet at the unique index, and the later one joins.
insert into kiket_analytics.runs as run (
    organization_id, organization_slug, reason, requested_by, forced, full_refresh, docs, selection,
    traceparent
)
values (
    %(organization_id)s, %(organization_slug)s, %(reason)s, %(requested_by)s, %(forced)s, %(full_refresh)s, %(docs)s,
    %(selection)s, %(traceparent)s
)
on conflict (organization_id) where status = 'queued' do update
set
    reason = case when run.reason = 'scheduled' then excluded.reason else run.reason end,
    urgency = null,
    requested_by = coalesce(run.requested_by, excluded.requested_by),
    -- The message of a scheduled run stands in the schedule's queue; the request's own goes to the other.
    published_at = null,
    forced = run.forced or excluded.forced,
    full_refresh = run.full_refresh or excluded.full_refresh,
    docs = run.docs or excluded.docs,
    -- One run belongs to one trace: the first that asked for it.
    traceparent = coalesce(run.traceparent, excluded.traceparent),
    selection = case
        when run.selection is not null and excluded.selection is not null then array(
            select distinct item from unnest(run.selection || excluded.selection) as item order by item
        )
    end
returning run.run_id, run.xmax = 0 as is_new
