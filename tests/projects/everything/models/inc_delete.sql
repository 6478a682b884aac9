{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='issue_id', on_schema_change='append_new_columns') }}
select issue_id, status, updated_at from {{ ref('stg_issues') }}
{% if is_incremental() %} where updated_at >= (select max(updated_at) from {{ this }}) {% endif %}
