{{ config(indexes=[{'columns': ['project_id'], 'unique': true}]) }}

select
    project_id,
    key as project_key,
    name as project_name,
    archived as is_archived,
    (created_at at time zone 'utc')::date as created_on
from {{ ref('stg_projects') }}
