select id
from {{ source('raw', 'issues') }}
where {{ tenant_filter('organization_id') }}
