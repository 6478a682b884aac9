-- Releases that have a changelog, automated or human, and no evaluation of what both say now; in the order of ids.
-- Parameters: evaluator; definitions_version; organization_id, null for all; limit_characters, where texts are cut;
-- after, the last release of the page before, or less than any; page_size. Reads only: two that run at once may get
-- the same releases, and `record_evaluations` keeps one evaluation of each.
select
    release.id as release_id,
    release.organization_id,
    release.project_id,
    left(release.changelog_draft, %(limit_characters)s) as automated,
    left(release.changelog, %(limit_characters)s) as human,
    content.digest as content_digest
from public.releases as release
cross join lateral (
    -- As JSON, so that null is not the empty text, and no text can pass for the other one.
    select encode(
        sha256(convert_to(
            json_build_array(%(definitions_version)s::integer, release.changelog_draft, release.changelog)::text, 'UTF8'
        )),
        'hex'
    ) as digest
) as content
where (release.changelog_draft is not null or release.changelog is not null)
    -- Never null, here and below: whatever plan is kept, a page begins in both indexes where the last one ended.
    and release.id > %(after)s
    and (%(organization_id)s::bigint is null or release.organization_id = %(organization_id)s)
    and not exists (
        select from kiket_analytics.changelog_evaluations as evaluation
        where evaluation.release_id = release.id
            and evaluation.release_id > %(after)s
            and evaluation.evaluator = %(evaluator)s
            and evaluation.content_digest = content.digest
    )
order by release.id
limit %(page_size)s
