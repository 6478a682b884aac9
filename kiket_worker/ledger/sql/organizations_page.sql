-- One page of organisations by slug, with the run that each has in hand: the one that is executed, or else the one that
-- waits. Parameters: those of `freshness`, which is put before this statement; organization_id, null for all; after, the
-- last slug of the page before, null for the first page; page_size. Reads only.
-- To be planned for the values that are given, not prepared.
select
    freshness.*,
    coalesce(
        (
            select run.run_id
            from kiket_analytics.runs as run
            where run.organization_id = freshness.organization_id and run.status in ('running', 'built', 'archived')
        ),
        (
            select run.run_id
            from kiket_analytics.runs as run
            where run.organization_id = freshness.organization_id and run.status = 'queued'
        )
    ) as active_run_id
from freshness
where (%(organization_id)s::bigint is null or freshness.organization_id = %(organization_id)s)
    and (%(after)s::text is null or freshness.slug > %(after)s)
order by freshness.slug
limit %(page_size)s
