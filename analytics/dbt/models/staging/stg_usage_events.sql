select
    id as usage_event_id,
    project_id,
    metric,
    quantity,
    unit,
    recorded_at,
    metadata,
    run_id,
    model_id
from {{ source('ledger', 'usage_events') }}
where {{ tenant_filter('organization_id') }}
