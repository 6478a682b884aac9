{{ config(indexes=[{'columns': ['user_id'], 'unique': true}]) }}

select
    user_id,
    name as user_name,
    role as user_role,
    active as is_active,
    (created_at at time zone 'utc')::date as created_on
from {{ ref('stg_users') }}
