-- The newest evaluations, newest first; those of one moment, which one statement has stored, by their ids.
-- Parameters: organization_id, null for all; limit. Reads only.
select evaluation_id, release_id, project_id, organization_id, evaluator, metrics, summary, generated_at
from kiket_analytics.changelog_evaluations
where %(organization_id)s::bigint is null or organization_id = %(organization_id)s
order by generated_at desc, evaluation_id
limit %(limit)s
