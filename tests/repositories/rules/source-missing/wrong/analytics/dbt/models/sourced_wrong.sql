select id
from {{ source('raw', 'invoices') }}
where {{ tenant_filter('organization_id') }}
