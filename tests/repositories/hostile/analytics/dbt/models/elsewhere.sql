{{ config(schema='shared', tags=['shared']) }}
select 1 as one
