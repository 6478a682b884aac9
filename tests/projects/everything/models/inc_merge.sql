{{ config(materialized='incremental', incremental_strategy='merge', unique_key='issue_id', on_schema_change='sync_all_columns') }}
select issue_id, status from {{ ref('stg_issues') }}
