-- depends: 0010-tokens
-- What the console reads quickly, however many runs there are: pages of runs by index, and sums that are kept up to
-- date by the transactions that change them.
-- Locks: runs and usage_events against writing while indexes and sums are made of what is there, about five seconds for
-- each million rows. Refreshes wait meanwhile, and renew their leases, which only reads runs.

-- Above a dozen million rows a sum takes more than the minute that a statement has; it has to be made all the same.
set local statement_timeout = 0;

-- The tick queues thousands of runs at one moment, so that pages need their ids to tell them apart.
create index runs_newest on kiket_analytics.runs (queued_at desc, run_id desc);
create index runs_newest_of_organization on kiket_analytics.runs (organization_id, queued_at desc, run_id desc);
-- By status: each run is put into the one or two of these that its end belongs to, once. `runs_not_ended` has the others.
create index runs_succeeded on kiket_analytics.runs (queued_at desc, run_id desc) where status = 'succeeded';
create index runs_succeeded_of_organization on kiket_analytics.runs (organization_id, queued_at desc, run_id desc)
    where status = 'succeeded';
create index runs_unsuccessful on kiket_analytics.runs (status, queued_at desc, run_id desc)
    where status in ('failed', 'cancelled', 'skipped');
create index runs_unsuccessful_of_organization
    on kiket_analytics.runs (organization_id, status, queued_at desc, run_id desc)
    where status in ('failed', 'cancelled', 'skipped');

-- Usage of an organisation by day (UTC).
create table kiket_analytics.usage_daily (
    organization_id bigint not null,
    day date not null,
    metric text not null,
    unit text not null,
    quantity numeric not null,
    primary key (organization_id, day, metric, unit)
) with (fillfactor = 80);

-- The same by month, and who has most of a metric.
create table kiket_analytics.usage_monthly (
    organization_id bigint not null,
    month date not null,
    metric text not null,
    unit text not null,
    quantity numeric not null,
    primary key (organization_id, month, metric, unit)
) with (fillfactor = 80);
create index usage_monthly_most on kiket_analytics.usage_monthly (month, metric, quantity desc, organization_id);

-- Usage of all organisations by day, in sixteen parts, so that runs that end at the same time seldom wait for each other.
create table kiket_analytics.usage_of_all (
    day date not null,
    metric text not null,
    unit text not null,
    part smallint not null,
    quantity numeric not null,
    primary key (day, metric, unit, part)
) with (fillfactor = 50);

-- Runs that ended in an hour, by how, in parts as well. `seconds` is what those took that had begun.
create table kiket_analytics.run_hours (
    hour timestamptz not null,
    status text not null,
    part smallint not null,
    runs bigint not null,
    seconds double precision not null,
    primary key (hour, status, part)
) with (fillfactor = 50);

-- Workers of the release before go on writing: `migrate --roles` gives their login these rights, and may come later.
do $$
begin
    if exists (select from pg_roles where rolname = 'kiket_ledger') then
        grant select, insert, update on
            kiket_analytics.usage_daily, kiket_analytics.usage_monthly, kiket_analytics.usage_of_all,
            kiket_analytics.run_hours
        to kiket_ledger;
    end if;
end
$$;

-- Whatever writes usage or ends a run keeps the sums. A transaction locks rows of one part at a time and always in this
-- order, so that no two wait for each other.
create function kiket_analytics.add_up_usage() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into kiket_analytics.usage_daily as known (organization_id, day, metric, unit, quantity)
    select organization_id, (recorded_at at time zone 'utc')::date, metric, unit, sum(quantity)
    from added
    group by 1, 2, 3, 4
    order by 1, 2, 3, 4
    on conflict (organization_id, day, metric, unit) do update set quantity = known.quantity + excluded.quantity;

    insert into kiket_analytics.usage_monthly as known (organization_id, month, metric, unit, quantity)
    select organization_id, date_trunc('month', recorded_at at time zone 'utc')::date, metric, unit, sum(quantity)
    from added
    group by 1, 2, 3, 4
    order by 1, 2, 3, 4
    on conflict (organization_id, month, metric, unit) do update set quantity = known.quantity + excluded.quantity;

    insert into kiket_analytics.usage_of_all as known (day, metric, unit, part, quantity)
    select (recorded_at at time zone 'utc')::date, metric, unit, mod(abs(organization_id), 16), sum(quantity)
    from added
    group by 1, 2, 3, 4
    order by 1, 2, 3, 4
    on conflict (day, metric, unit, part) do update set quantity = known.quantity + excluded.quantity;
    return null;
end
$$;

create function kiket_analytics.count_ended_run() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into kiket_analytics.run_hours as known (hour, status, part, runs, seconds)
    values (
        date_trunc('hour', new.finished_at, 'utc'),
        new.status,
        mod(abs(new.organization_id), 16),
        1,
        coalesce(extract(epoch from new.finished_at - new.started_at), 0)
    )
    on conflict (hour, status, part) do update
    set runs = known.runs + 1, seconds = known.seconds + excluded.seconds;
    return null;
end
$$;

create trigger usage_events_add_up after insert on kiket_analytics.usage_events
    referencing new table as added
    for each statement execute function kiket_analytics.add_up_usage();
create trigger runs_count_ended after update of status on kiket_analytics.runs
    for each row when (old.finished_at is null and new.finished_at is not null)
    execute function kiket_analytics.count_ended_run();

-- What is there: the triggers' locks let nothing come in between.
insert into kiket_analytics.usage_daily (organization_id, day, metric, unit, quantity)
select organization_id, (recorded_at at time zone 'utc')::date, metric, unit, sum(quantity)
from kiket_analytics.usage_events
group by 1, 2, 3, 4;

insert into kiket_analytics.usage_monthly (organization_id, month, metric, unit, quantity)
select organization_id, date_trunc('month', day)::date, metric, unit, sum(quantity)
from kiket_analytics.usage_daily
group by 1, 2, 3, 4;

insert into kiket_analytics.usage_of_all (day, metric, unit, part, quantity)
select day, metric, unit, mod(abs(organization_id), 16), sum(quantity)
from kiket_analytics.usage_daily
group by 1, 2, 3, 4;

insert into kiket_analytics.run_hours (hour, status, part, runs, seconds)
select
    date_trunc('hour', finished_at, 'utc'),
    status,
    mod(abs(organization_id), 16),
    count(*),
    coalesce(sum(extract(epoch from finished_at - started_at)), 0)
from kiket_analytics.runs
where finished_at is not null
group by 1, 2, 3;
