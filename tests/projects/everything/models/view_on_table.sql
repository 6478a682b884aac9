{{ config(persist_docs={'relation': true}) }}
select status, count(*) as issues from {{ ref('plain_table') }} group by 1
