-- Store evaluations; give a row for each that was not there.
-- Parameters: evaluator, and arrays of one length: release_ids, organization_ids, project_ids, content_digests,
-- metrics, summaries. May run concurrently: of two that store the same, the second waits for the first and then stores
-- nothing. In the order of the releases, so that no two wait for each other.
insert into kiket_analytics.changelog_evaluations (
    release_id, organization_id, project_id, evaluator, content_digest, metrics, summary
)
select
    scored.release_id,
    scored.organization_id,
    scored.project_id,
    %(evaluator)s,
    scored.digest,
    scored.metrics,
    scored.summary
from unnest(
    %(release_ids)s::bigint[], %(organization_ids)s::bigint[], %(project_ids)s::bigint[],
    %(content_digests)s::text[], %(metrics)s::jsonb[], %(summaries)s::text[]
) as scored (release_id, organization_id, project_id, digest, metrics, summary)
order by scored.release_id
on conflict on constraint changelog_evaluations_once do nothing
returning release_id
