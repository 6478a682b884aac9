{{ config(materialized='owned') }}
select 1 as one
