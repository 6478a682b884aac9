with written as (
    insert into kiket_analytics.usage_events default values returning *
)

select * from written
