{{ config(materialized='table', post_hook="create index if not exists hooked_{{ this.name }} on {{ this }} (project_id)", pre_hook="select 1") }}
select project_id, name from {{ ref('stg_projects') }}
