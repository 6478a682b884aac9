select
    id as project_id,
    key,
    name,
    archived,
    created_at
from {{ source('raw', 'projects') }}
where {{ tenant_filter('organization_id') }}
