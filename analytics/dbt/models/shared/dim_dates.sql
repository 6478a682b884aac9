{{ config(indexes=[{'columns': ['date_day'], 'unique': true}]) }}

-- Days are counted as whole numbers and truncated without a time zone: in some zones there are days without a midnight.
with days as (

    select date '{{ var("first_calendar_day") }}' + day_number as date_day
    from generate_series(
        0, date '{{ var("last_calendar_day") }}' - date '{{ var("first_calendar_day") }}'
    ) as day_number

)

select
    date_day,
    extract(year from date_day)::integer as year,
    extract(quarter from date_day)::integer as quarter,
    extract(month from date_day)::integer as month,
    to_char(date_day, 'FMMonth') as month_name,
    extract(isoyear from date_day)::integer as iso_year,
    extract(week from date_day)::integer as iso_week,
    extract(isodow from date_day)::integer as day_of_week,
    to_char(date_day, 'FMDay') as day_name,
    extract(isodow from date_day) >= 6 as is_weekend,
    date_trunc('week', date_day::timestamp)::date as first_of_week,
    date_trunc('month', date_day::timestamp)::date as first_of_month,
    date_trunc('quarter', date_day::timestamp)::date as first_of_quarter
from days
