-- Who has cost most in a month, the costliest first. Parameters: month (its first day); metrics and cents, two arrays
-- that pair each metric that has a price with it; organizations_limit. Reads only.
-- Looked for among those who have most of one of the metrics, which is exact for one metric, and for several unless
-- somebody is among the first of their sum and not among ten times as many of any.
with candidates as (
    select distinct most.organization_id
    from unnest(%(metrics)s::text[]) as priced (metric)
    cross join lateral (
        select monthly.organization_id
        from kiket_analytics.usage_monthly as monthly
        where monthly.month = %(month)s and monthly.metric = priced.metric
        order by monthly.quantity desc
        limit 10 * %(organizations_limit)s
    ) as most
),
costliest as materialized (
    select candidates.organization_id, cost.quantity, cost.cents
    from candidates
    cross join lateral (
        select sum(monthly.quantity) as quantity, sum(monthly.quantity * priced.cents) as cents
        from kiket_analytics.usage_monthly as monthly
        join unnest(%(metrics)s::text[], %(cents)s::numeric[]) as priced (metric, cents)
            on priced.metric = monthly.metric
        where monthly.organization_id = candidates.organization_id and monthly.month = %(month)s
    ) as cost
    order by cost.cents desc, candidates.organization_id
    limit %(organizations_limit)s
)
select costliest.organization_id, organization.slug, organization.name, costliest.quantity, costliest.cents
from costliest
cross join lateral (
    select slug, name from public.organizations where id = costliest.organization_id
    limit 1  -- By index, however few rows of the table the planner believes in.
) as organization
order by costliest.cents desc, costliest.organization_id
