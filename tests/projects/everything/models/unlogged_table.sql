{{ config(materialized='table', unlogged=true) }}
select '{{ this }}' as me, '{{ this.name }}' as name, '{{ invocation_id }}' as invocation, count(*) as projects from {{ ref('stg_projects') }}
