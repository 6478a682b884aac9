-- Usage of ten days for every organisation, as the platform would have recorded it before the first refresh. A day's
-- quantity tells whose it is; every second day's usage belongs to no project.
-- Parameters: now, the moment at which the sample data ends. Run once, in the demo's own database.

insert into kiket_analytics.usage_events (organization_id, project_id, metric, quantity, unit, recorded_at)
select
    organizations.id,
    case when mod(days.day, 2) = 0 then projects.id end,
    'api_calls',
    1000 * organizations.id + days.day,
    'call',
    %(now)s::timestamptz - days.day * interval '1 day'
from public.organizations
cross join generate_series(1, 10) as days (day)
cross join lateral (
    select min(id) as id from public.projects where organization_id = organizations.id
) as projects;
