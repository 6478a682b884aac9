-- An installation's history, in an empty ledger whose triggers do not fire (session_replication_role): organisations
-- `org-000001` and on, runs that were queued every three seconds and ended, models, attempts and usage.
-- The sums are for whoever runs this to add up.
-- Parameters: organizations, runs, models of each run. Run by a superuser, alone.
-- One organisation has a tenth of all runs; one run in twenty has failed; every seventh organisation is late.
insert into public.organizations (id, slug, name, plan, created_at)
select
    number,
    'org-' || lpad(number::text, 6, '0'),
    'Organisation ' || number,
    (array['starter', 'team', 'business', 'enterprise'])[1 + number %% 4],
    now()
from generate_series(1, %(organizations)s) as number;

insert into kiket_analytics.analytics_settings (organization_id, enabled, last_run_at)
select
    number,
    number %% 50 <> 0,
    now() - make_interval(
        hours => (array[24, 12, 6, 1])[1 + number %% 4] * case when number %% 7 = 0 then 2 else 0 end,
        secs => number %% 3600
    )
from generate_series(1, %(organizations)s) as number;

insert into kiket_analytics.leases (schema_name, organization_id)
select 'analytics_org_' || replace(slug, '-', '_'), id from public.organizations;

insert into kiket_analytics.runs (
    run_id, organization_id, organization_slug, reason, status, attempt, lease_epoch, worker, queued_at, started_at,
    built_at, archived_at, finished_at, artifacts_location, artifacts_index_sha256, error_kind, error_message
)
select
    kiket_analytics.uuid_v7(),
    organization.id,
    'org-' || lpad(organization.id::text, 6, '0'),
    'scheduled',
    outcome.status,
    1,
    number,
    'bench:1',
    moment.at,
    moment.at + interval '1 second',
    moment.at + interval '2 seconds',
    moment.at + interval '3 seconds',
    moment.at + interval '4 seconds',
    'file:///bench/' || number,
    repeat('0', 64),
    case when outcome.status = 'failed' then 'model_failed' end,
    case when outcome.status = 'failed' then 'a model has failed' end
from generate_series(%(runs)s, 1, -1) as number
cross join lateral (
    select case when number %% 10 = 0 then 1 else 1 + (number * 7919::bigint) %% %(organizations)s end as id
) as organization
cross join lateral (select case when number %% 20 = 5 then 'failed' else 'succeeded' end as status) as outcome
cross join lateral (select now() - make_interval(secs => 3 * number) as at) as moment;

-- One of each status that is not the end, and the ends that are rare.
update kiket_analytics.runs set status = 'running', finished_at = null
where run_id in (select run_id from kiket_analytics.runs where status = 'succeeded' order by queued_at desc limit 1);
update kiket_analytics.runs set status = 'cancelled'
where run_id in (select run_id from kiket_analytics.runs where status = 'succeeded' order by queued_at limit 10);

insert into kiket_analytics.attempts (run_id, lease_epoch, attempt, worker, started_at, finished_at, outcome)
select run_id, lease_epoch, 1, worker, started_at, finished_at, case when finished_at is not null then 'succeeded' end
from kiket_analytics.runs;

insert into kiket_analytics.run_models (run_id, model_id, status, duration_seconds, rows_affected, started_at)
select run.run_id, 'model.bench.m' || model, 'success', 0.1 * model, 1000, run.started_at
from kiket_analytics.runs as run
cross join generate_series(1, %(models)s) as model;

insert into kiket_analytics.usage_events (organization_id, metric, quantity, unit, recorded_at, run_id, model_id)
select run.organization_id, 'analytics_dbt_run', 1, 'model_run', run.finished_at, run.run_id, model.model_id
from kiket_analytics.runs as run
join kiket_analytics.run_models as model on model.run_id = run.run_id
where run.status = 'succeeded';
