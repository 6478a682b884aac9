{{ config(pre_hook="drop schema analytics_raw cascade") }}
select 1 as one
