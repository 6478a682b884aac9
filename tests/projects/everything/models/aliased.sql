{{ config(alias='another_name', materialized='table') }}
select count(*) as rows from {{ ref('inc_append') }}
