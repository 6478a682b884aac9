{{ config(materialized='table') }}

select
    id as project_id,
    name as project_name
from {{ source('raw', 'projects') }}
where {{ tenant_filter('organization_id') }}
