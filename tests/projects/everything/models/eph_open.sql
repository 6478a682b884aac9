{{ config(materialized='ephemeral') }}
select * from {{ ref('stg_issues') }} where status <> 'done'
