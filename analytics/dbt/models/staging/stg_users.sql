select
    id as user_id,
    name,
    role,
    active,
    created_at
from {{ source('raw', 'users') }}
where {{ tenant_filter('organization_id') }}
