select
    id as issue_id,
    project_id,
    parent_id,
    assignee_id,
    issue_type,
    title,
    status,
    priority,
    story_points,
    due_on,
    created_at,
    started_at,
    completed_at,
    updated_at
from {{ source('raw', 'issues') }}
where {{ tenant_filter('organization_id') }}
