{{ config(materialized='incremental', unique_key=['project_id'], indexes=[{'columns': ['project_id']}]) }}
select project_id, name from {{ ref('stg_projects') }}
