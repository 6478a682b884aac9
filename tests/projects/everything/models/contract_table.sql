{{ config(materialized='table', contract={'enforced': true}, persist_docs={'relation': true, 'columns': true}, grants={'select': ['analytics_readers']}) }}
select project_id, count(*) as issues, count(*)::numeric(12, 2) as points from {{ ref('plain_table') }} group by 1
