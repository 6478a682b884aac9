{{ config(materialized='incremental', incremental_strategy='append') }}
select issue_id, updated_at from {{ ref('stg_issues') }}
{% if is_incremental() %} where updated_at > (select max(updated_at) from {{ this }}) {% endif %}
