select
    id as release_id,
    project_id,
    version,
    changelog_draft,
    changelog,
    released_at,
    created_at
from {{ source('raw', 'releases') }}
where {{ tenant_filter('organization_id') }}
