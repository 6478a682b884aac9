-- Note in the settings which default interval the plans of the next organisations give, for the index of what is due;
-- give how far the comparison has come, or null after the last, and how many notes were made.
-- Parameters: plans and hours, two arrays that pair each plan with its default interval; limit, how many to compare.
-- Run after the caller has locked the ticker's row. A row that somebody else is changing is left to the next round, so
-- that nothing waits here. Where nobody has changed a plan, nothing is written.
with compared as materialized (
    select settings.organization_id, settings.plan_hours, plan.hours
    from (
        select organization_id, plan_hours
        from kiket_analytics.analytics_settings
        where organization_id > coalesce((select compared_to from kiket_analytics.ticker), -9223372036854775808)
        order by organization_id
        limit %(limit)s
    ) as settings
    -- One by one, so that it costs as much among a million as among ten thousand.
    left join lateral (
        select plan from public.organizations where id = settings.organization_id offset 0
    ) as organization on true
    left join unnest(%(plans)s::text[], %(hours)s::integer[]) as plan (name, hours) on plan.name = organization.plan
),
free as materialized (
    select settings.organization_id
    from kiket_analytics.analytics_settings as settings
    where settings.organization_id in (
        select organization_id from compared where plan_hours is distinct from hours
    )
    for update skip locked
),
noted as (
    update kiket_analytics.analytics_settings as settings
    set plan_hours = compared.hours
    from compared
    join free on free.organization_id = compared.organization_id
    where settings.organization_id = compared.organization_id
    returning 1
)
select
    case when exists (
        select from kiket_analytics.analytics_settings as next_one where next_one.organization_id > last_one.compared
    ) then last_one.compared end as compared_to,
    (select count(*) from noted) as noted
from (select max(organization_id) as compared from compared) as last_one
