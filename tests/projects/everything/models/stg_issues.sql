select id as issue_id, project_id, title, status, story_points, created_at, updated_at
from {{ source('raw', 'issues') }} where {{ mine('organization_id') }}
