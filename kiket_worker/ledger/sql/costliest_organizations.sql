-- Who has cost most in a month, the costliest first. Parameters: month (its first day); metrics and cents, two arrays
-- that pair each metric that has a price with it; organizations_limit. Reads only.
-- Looked for among those who have most of one of the metrics, which is exact for one metric and for as many
-- organisations as are looked at of each.
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
)
select
    candidates.organization_id,
    organization.slug,
    organization.name,
    cost.quantity,
    cost.cents
from candidates
join public.organizations as organization on organization.id = candidates.organization_id
cross join lateral (
    select sum(monthly.quantity) as quantity, sum(monthly.quantity * priced.cents) as cents
    from kiket_analytics.usage_monthly as monthly
    join unnest(%(metrics)s::text[], %(cents)s::numeric[]) as priced (metric, cents) on priced.metric = monthly.metric
    where monthly.organization_id = candidates.organization_id and monthly.month = %(month)s
) as cost
order by cost.cents desc, organization.slug
limit %(organizations_limit)s
