{{ config(materialized='incremental', incremental_predicates=['true; drop schema analytics_raw cascade']) }}
select 1 as one
