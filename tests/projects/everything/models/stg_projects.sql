select id as project_id, name, 'org' as org, '{{ var("organization_slug") }}' as slug, {{ var('organization_id') }} as organization_id
from {{ source('raw', 'projects') }} where {{ mine('organization_id') }}
