select
    id as organization_id,
    slug,
    name,
    plan,
    created_at
from {{ source('raw', 'organizations') }}
where {{ tenant_filter('id') }}
