"""Attacks on what others have: their rows, their tables and the ledger, by reading, guessing or writing."""

import psycopg

from tests.isolation.attacks import (
    NO_GATES,
    NO_LEDGER,
    NO_PUBLIC,
    NO_VICTIM,
    NOTHING,
    OF_OWNER,
    QUERY,
    SESSION,
    STATEMENT,
    Attack,
    Done,
    Refused,
    Shows,
    Way,
    forbidden,
)

# A view of the attacker's over a gate, through which its dashboards read.
_SEEN = "create or replace view analytics_org_acme.issues_seen as select * from analytics_raw.issues"
# Cheaper than any comparison, so that the planner would ask it before the gate's own condition.
_TRIP = """
create or replace function analytics_org_acme.trip(organization_id bigint) returns boolean
language plpgsql cost 0.0000001 as $$
begin
    if organization_id <> 1 then
        raise exception 'a row of organisation % is seen', organization_id;
    end if;
    return true;
end $$
"""
_TELL = """
create or replace function analytics_org_acme.tell(organization_id bigint) returns boolean
language plpgsql cost 0.0000001 as $$
begin
    raise notice 'a row of organisation % is seen', organization_id;
    return true;
end $$
"""
# The planner's estimate of a comparison may call the operator's function with values of the table's statistics.
_OPERATOR = """
create or replace function analytics_org_acme.same(one bigint, other bigint) returns boolean
language plpgsql immutable as $$
begin
    raise notice 'value % is compared', one;
    return one = other;
end $$;
drop operator if exists analytics_org_acme.=== (bigint, bigint);
create operator analytics_org_acme.=== (
    leftarg = bigint, rightarg = bigint, function = analytics_org_acme.same, restrict = eqsel
)
"""
_PLAN = """
create or replace function analytics_org_acme.plan_of(query text) returns jsonb
language plpgsql set enable_seqscan = off as $$
declare
    plan jsonb;
begin
    execute 'explain (analyze, format json) ' || query into plan;
    return plan #> '{0,Plan}';
end $$
"""
_REACH = """
create or replace function analytics_org_acme.reach() returns bigint
language plpgsql security definer as $$ begin return (select count(*) from public.issues); end $$
"""

READING = (
    Attack("raw_table", "no raw table can be read", "select title from public.issues", NO_PUBLIC, QUERY),
    Attack("raw_people", "nor what is personal", "select email from public.users", NO_PUBLIC, QUERY),
    Attack("raw_names", "nor who the others are", "select slug from public.organizations", NO_PUBLIC, QUERY),
    Attack(
        "raw_table_by_a_function",
        "a function that takes a query reads with its caller's rights",
        "select word from ts_stat('select to_tsvector(title) from public.issues')",
        NO_PUBLIC,
        QUERY,
    ),
    Attack(
        "raw_table_as_xml",
        "so does the one that gives XML",
        "select query_to_xml('select * from public.issues', true, true, '')::text as everything",
        NO_PUBLIC,
        QUERY,
    ),
    Attack(
        "raw_table_by_a_definers_function",
        "a SECURITY DEFINER function of the tenant's has the tenant's rights, whoever calls it",
        "select analytics_org_acme.reach() as found",
        NO_PUBLIC,
        QUERY,
        before=(_REACH,),
    ),
    Attack(
        "raw_table_in_a_foreign_key",
        "no foreign key can point to a raw table and so tell which ids exist",
        "create table analytics_org_acme.pointing (id bigint references public.issues (id))",
        NO_PUBLIC,
        STATEMENT,
        as_reader=forbidden("permission denied for schema analytics_org_acme"),
    ),
    Attack(
        "raw_table_inherited",
        "no table can inherit a raw table",
        "create table analytics_org_acme.heir () inherits (public.issues)",
        NO_PUBLIC,
        OF_OWNER,
    ),
    Attack(
        "raw_row_type",
        "nor can its row type be named",
        "select null::public.issues as row_of_it",
        NO_PUBLIC,
        QUERY,
    ),
    Attack(
        "other_tenants_table",
        "no other tenant's table can be read",
        "select * from analytics_org_blue_harbor.fct_throughput",
        NO_VICTIM,
        QUERY,
    ),
    Attack(
        "other_tenants_view",
        "nor a view, which would show what its reader may see",
        "select * from analytics_org_blue_harbor.stg_issues",
        NO_VICTIM,
        QUERY,
    ),
    Attack(
        "other_tenants_name_by_cast",
        "a name in another tenant's schema cannot be looked up",
        "select 'analytics_org_blue_harbor.dim_users'::regclass::oid as found",
        NO_VICTIM,
        QUERY,
    ),
    Attack("ledger_runs", "the ledger cannot be read", "select run_id from kiket_analytics.runs", NO_LEDGER, QUERY),
    Attack(
        "ledger_usage",
        "nor what is charged for",
        "select quantity from kiket_analytics.usage_events",
        NO_LEDGER,
        QUERY,
    ),
    Attack(
        "ledger_tenants",
        "nor whose session is whose",
        "select schema_name from kiket_analytics.tenants",
        NO_LEDGER,
        QUERY,
    ),
    Attack(
        "ledger_sequence",
        "a sequence of the ledger cannot be used, though its oid is known",
        "select nextval(oid) as number from pg_class"
        " where relkind = 'S' and relnamespace = (select oid from pg_namespace where nspname = 'kiket_analytics')",
        forbidden("permission denied for sequence"),
        (Way.MODEL, Way.SESSION),
    ),
    Attack(
        "passwords",
        "no password's verifier can be read",
        "select rolpassword from pg_authid",
        forbidden("permission denied for table pg_authid"),
        QUERY,
    ),
    Attack(
        "passwords_by_view",
        "nor by the older view",
        "select passwd from pg_shadow",
        forbidden("permission denied for view pg_shadow"),
        QUERY,
    ),
)

GATES = (
    Attack(
        "gate_without_a_filter",
        "a gate shows the session's own rows to a model that asks for all",
        "select organization_id, count(*) as issues from analytics_raw.issues group by organization_id",
        Shows(((1, 64),)),
        QUERY,
        as_reader=NO_GATES,
    ),
    Attack(
        "gate_of_another",
        "and none to a model that asks for another's",
        "select count(*) as issues from analytics_raw.issues where organization_id = 2",
        NOTHING,
        QUERY,
        as_reader=NO_GATES,
    ),
    Attack(
        "gate_of_organizations",
        "of the organisations only itself",
        "select slug from analytics_raw.organizations",
        Shows((("acme",),)),
        QUERY,
        as_reader=NO_GATES,
    ),
    Attack(
        "gate_by_the_parents",
        "of the comments only those on its own issues",
        "select min(issue_id / 10000000) as least, max(issue_id / 10000000) as most, count(*) > 0 as has_any"
        " from analytics_raw.comments",
        Shows(((1, 1, True),)),
        QUERY,
        as_reader=NO_GATES,
    ),
    Attack(
        "gate_of_the_ledger",
        "of the usage only its own",
        "select distinct organization_id from analytics_raw.usage_events",
        Shows(((1,),)),
        QUERY,
        as_reader=NO_GATES,
    ),
    Attack(
        "gate_joined_outward",
        "an outer join brings no row of others in",
        "select count(*) as rows_seen, max(coalesce(one.organization_id, other.organization_id)) as most"
        " from analytics_raw.issues as one full join analytics_raw.issues as other on false",
        Shows(((128, 1),)),
        QUERY,
        as_reader=NO_GATES,
    ),
    Attack(
        "gate_by_a_view_of_ones_own",
        "a view of the tenant's shows its reader the tenant's rows",
        "select organization_id, count(*) as issues from analytics_org_acme.issues_seen group by organization_id",
        Shows(((1, 64),)),
        QUERY,
        before=(_SEEN,),
    ),
    Attack(
        "gate_as_the_invoker",
        "a view with its invoker's rights gives the twin none that it does not have",
        "select count(*) as issues from analytics_org_acme.issues_invoked",
        Shows(((64,),)),
        QUERY,
        before=(
            "create or replace view analytics_org_acme.issues_invoked with (security_invoker)"
            " as select * from analytics_raw.issues",
        ),
        as_reader=forbidden("permission denied for view issues"),
    ),
    Attack(
        "gate_hidden_column",
        "a column that is not listed is not there",
        "select email from analytics_raw.users",
        Refused(psycopg.errors.UndefinedColumn, 'column "email" does not exist'),
        QUERY,
        as_reader=NO_GATES,
    ),
    Attack(
        "gate_system_column",
        "nor are a raw table's system columns",
        "select ctid::text as place from analytics_raw.issues",
        Refused(psycopg.errors.UndefinedColumn, 'column "ctid" does not exist'),
        QUERY,
        as_reader=NO_GATES,
    ),
    Attack(
        "gate_replaced",
        "a gate cannot be made anew",
        "create or replace view analytics_raw.issues as select 1 as id",
        NO_GATES,
        STATEMENT,
    ),
    Attack(
        "gate_dropped",
        "nor dropped",
        "drop view analytics_raw.issues cascade",
        forbidden("must be owner of view issues"),
        STATEMENT,
        as_reader=NO_GATES,
    ),
    Attack(
        "gate_without_its_barrier",
        "nor lose its barrier",
        "alter view analytics_raw.issues set (security_barrier = false)",
        forbidden("must be owner of view issues"),
        STATEMENT,
        as_reader=NO_GATES,
    ),
    Attack(
        "gate_taken_over",
        "nor get another owner",
        "alter view analytics_raw.issues owner to analytics_org_acme",
        forbidden("must be owner of view issues"),
        STATEMENT,
        as_reader=NO_GATES,
    ),
    Attack(
        "gate_with_a_rule",
        "nor a rule",
        "create rule sly as on insert to analytics_raw.issues do instead nothing",
        forbidden("must be owner of"),
        STATEMENT,
        as_reader=NO_GATES,
    ),
    Attack(
        "gate_with_a_trigger",
        "nor a trigger",
        "create trigger sly instead of insert on analytics_raw.issues for each row"
        " execute function suppress_redundant_updates_trigger()",
        forbidden("permission denied for view issues"),
        STATEMENT,
        as_reader=NO_GATES,
    ),
    Attack(
        "gate_granted_to_all",
        "a right on a gate cannot be passed on",
        "grant select on analytics_raw.issues to public",
        Done(frozenset({'no privileges were granted for "issues"'})),
        SESSION,
    ),
    Attack(
        "gate_written",
        "no raw row can be changed through a gate, not even its own",
        "update analytics_raw.issues set organization_id = 2",
        forbidden("permission denied for view issues"),
        STATEMENT,
        as_reader=NO_GATES,
    ),
    Attack(
        "gate_filled",
        "nor added",
        "insert into analytics_raw.organizations (id, slug, name, plan, created_at)"
        " values (9, 'nine', 'Nine', 'team', now())",
        forbidden("permission denied for view organizations"),
        STATEMENT,
        as_reader=NO_GATES,
    ),
    Attack(
        "gate_emptied",
        "nor deleted",
        "delete from analytics_raw.comments",
        forbidden("permission denied for view comments"),
        STATEMENT,
        as_reader=NO_GATES,
    ),
    Attack(
        "gate_rows_locked",
        "nor locked",
        "select id from analytics_raw.issues for update",
        forbidden("permission denied for view issues"),
        STATEMENT,
        as_reader=NO_GATES,
    ),
    Attack(
        "gate_locked",
        "nor can the gate be locked against others",
        "begin; lock table analytics_raw.issues in access exclusive mode; commit",
        forbidden("permission denied for view issues"),
        SESSION,
    ),
    Attack(
        "identity_function_replaced",
        "the function that says whose session it is cannot be made anew",
        "create or replace function analytics_raw.session_organization_id() returns bigint language sql as 'select 2'",
        NO_GATES,
        STATEMENT,
    ),
    Attack(
        "identity_function_dropped",
        "nor dropped",
        "drop function analytics_raw.session_organization_id() cascade",
        forbidden("must be owner of function"),
        STATEMENT,
        as_reader=NO_GATES,
    ),
    Attack(
        "identity_function_changed",
        "nor lose its fixed search_path",
        "alter function analytics_raw.session_organization_id() reset all",
        forbidden("must be owner of function"),
        STATEMENT,
        as_reader=NO_GATES,
    ),
    Attack(
        "identity_by_application_name",
        "what a session says of itself changes nothing",
        (
            "set application_name = 'analytics_org_blue_harbor'",
            "select analytics_raw.session_organization_id()",
        ),
        Shows(((1,),)),
        SESSION,
    ),
    Attack(
        "gates_schema_filled",
        "nothing can be put beside the gates",
        "create table analytics_raw.mine (id bigint)",
        NO_GATES,
        STATEMENT,
    ),
    Attack(
        "gates_schema_dropped",
        "nor can their schema be dropped",
        "drop schema analytics_raw cascade",
        forbidden("must be owner of schema analytics_raw"),
        STATEMENT,
    ),
)

LEAKS = (
    Attack(
        "leak_by_a_cheap_function",
        "a function of the tenant's, however cheap, is asked of its own rows only",
        "select count(*) as issues from analytics_raw.issues where analytics_org_acme.trip(organization_id)",
        Shows(((64,),)),
        QUERY,
        before=(_TRIP,),
        as_reader=NO_GATES,
    ),
    Attack(
        "leak_by_a_notice",
        "nor does it hear of others by what it says",
        "select count(*) as issues from analytics_org_acme.issues_seen where analytics_org_acme.tell(organization_id)",
        Shows(((64,),), frozenset({"a row of organisation 1 is seen"})),
        QUERY,
        before=(_SEEN, _TELL),
    ),
    Attack(
        "leak_in_a_view",
        "nor in a view of the tenant's over the gate",
        "select count(*) as issues from analytics_org_acme.issues_tripping",
        Shows(((64,),)),
        QUERY,
        before=(
            _TRIP,
            "create or replace view analytics_org_acme.issues_tripping as"
            " select * from analytics_raw.issues where analytics_org_acme.trip(organization_id)",
        ),
    ),
    Attack(
        "leak_in_a_join",
        "nor in the condition of a join",
        "select count(*) as pairs from analytics_raw.issues as issue join analytics_raw.users as person"
        " on analytics_org_acme.trip(issue.organization_id) and analytics_org_acme.trip(person.organization_id)",
        Shows(((64 * 5,),)),
        QUERY,
        before=(_TRIP,),
        as_reader=NO_GATES,
    ),
    Attack(
        "leak_by_a_division",
        "a division by zero that only another's row would cause does not happen",
        "select count(*) as issues from analytics_raw.issues where 1 / (organization_id - 2) < 5",
        Shows(((64,),)),
        QUERY,
        as_reader=NO_GATES,
    ),
    Attack(
        "leak_by_a_cast",
        "nor a cast that would print another's title in its error",
        "select count(*) as issues from analytics_raw.issues"
        " where case when organization_id <> 1 then title::integer > 0 else true end",
        Shows(((64,),)),
        QUERY,
        as_reader=NO_GATES,
    ),
    Attack(
        "leak_through_the_parents",
        "nor where a row's owner is told by its parent",
        "select count(*) filter (where issue_id / 10000000 = 1) = count(*) as holds from analytics_raw.comments"
        " where analytics_org_acme.trip(issue_id / 10000000)",
        Shows(((True,),)),
        QUERY,
        before=(_TRIP,),
        as_reader=NO_GATES,
    ),
    Attack(
        "leak_by_the_planner",
        "the planner does not ask an operator of the tenant's about values in the statistics of raw tables",
        "explain select from analytics_org_acme.issues_seen where organization_id operator(analytics_org_acme.===) 2",
        Done(frozenset()),
        (Way.DASHBOARD, Way.SESSION),
        before=(_SEEN, _OPERATOR),
    ),
    Attack(
        "leakproof_by_ones_own_word",
        "nobody can call a function leakproof and so get past the barrier",
        "create or replace function analytics_org_acme.sly(bigint) returns boolean language sql leakproof"
        " as 'select true'",
        forbidden("only superuser can define a leakproof function"),
        OF_OWNER,
    ),
    Attack(
        "statistics_by_view",
        "statistics of columns that cannot be read are not shown",
        "select count(*) as found from pg_stats"
        " where schemaname in ('public', 'kiket_analytics', 'analytics_org_blue_harbor')",
        NOTHING,
        QUERY,
    ),
    Attack(
        "statistics_by_table",
        "nor can the table behind them be read",
        "select stavalues1::text as values_seen from pg_statistic",
        forbidden("permission denied for table pg_statistic"),
        QUERY,
    ),
    Attack(
        "statistics_cleared",
        "nor can they be changed",
        "select pg_clear_relation_stats('public', 'issues')::text as done",
        NO_PUBLIC,
        QUERY,
    ),
    Attack(
        "statistics_of_a_gate_cleared",
        "not even a gate's",
        "select pg_clear_relation_stats('analytics_raw', 'issues')::text as done",
        Refused(psycopg.errors.WrongObjectType, 'cannot modify statistics for relation "issues"'),
        (Way.MODEL, Way.SESSION),
    ),
    Attack(
        "information_schema_tables",
        "the information schema lists no table of others",
        "select count(*) as found from information_schema.tables"
        " where table_schema in ('public', 'kiket_analytics', 'analytics_org_blue_harbor')",
        NOTHING,
        QUERY,
    ),
    Attack(
        "information_schema_columns",
        "nor a column",
        "select count(*) as found from information_schema.columns"
        " where table_schema in ('public', 'kiket_analytics', 'analytics_org_blue_harbor')",
        NOTHING,
        QUERY,
    ),
    Attack(
        "information_schema_rights",
        "nor a right of others",
        "select count(*) as found from information_schema.role_table_grants"
        " where grantee in ('kiket_ledger', 'analytics_gates', 'analytics_org_blue_harbor')",
        NOTHING,
        QUERY,
    ),
    Attack(
        "other_sessions_queries",
        "what other sessions ask, and from where, is not shown",
        "select distinct query, client_port, state from pg_stat_activity"
        " where usename in ('analytics_org_blue_harbor', 'kiket_ledger')",
        Shows((("<insufficient privilege>", None, None),)),
        QUERY,
    ),
)

WRITING = (
    Attack(
        "victims_schema_filled",
        "nothing can be put into another tenant's schema",
        "create table analytics_org_blue_harbor.mine (id bigint)",
        NO_VICTIM,
        STATEMENT,
    ),
    Attack(
        "victims_table_written",
        "nor changed in it",
        "delete from analytics_org_blue_harbor.dim_users",
        NO_VICTIM,
        STATEMENT,
    ),
    Attack(
        "victims_table_dropped",
        "nor dropped",
        "drop table analytics_org_blue_harbor.dim_users",
        NO_VICTIM,
        STATEMENT,
    ),
    Attack(
        "victims_schema_dropped",
        "nor can the schema itself",
        "drop schema analytics_org_blue_harbor cascade",
        forbidden("must be owner of schema analytics_org_blue_harbor"),
        STATEMENT,
    ),
    Attack(
        "table_moved_to_the_victim",
        "a table of the tenant's cannot be moved into it",
        "alter table analytics_org_acme.moving set schema analytics_org_blue_harbor",
        NO_VICTIM,
        OF_OWNER,
        before=("create table if not exists analytics_org_acme.moving (id bigint)",),
    ),
    Attack("raw_table_written", "no raw row can be deleted", "delete from public.issues", NO_PUBLIC, STATEMENT),
    Attack("raw_schema_filled", "public takes nothing", "create table public.mine (id bigint)", NO_PUBLIC, STATEMENT),
    Attack(
        "ledger_written",
        "usage cannot be rewritten",
        "update kiket_analytics.usage_events set quantity = 0",
        NO_LEDGER,
        STATEMENT,
    ),
    Attack(
        "shared_table_written",
        "what all share can be read and not changed",
        "delete from analytics_shared.dim_dates",
        forbidden("permission denied for table dim_dates"),
        STATEMENT,
    ),
    Attack(
        "shared_table_dropped",
        "nor dropped",
        "drop table analytics_shared.dim_dates",
        forbidden("must be owner of table dim_dates"),
        STATEMENT,
    ),
    Attack(
        "shared_schema_filled",
        "nor can a trap be laid in it",
        "create function analytics_shared.sly() returns bigint language sql as 'select 1'",
        forbidden("permission denied for schema analytics_shared"),
        STATEMENT,
    ),
    Attack(
        "catalog_filled",
        "nor in the catalog",
        "create function pg_catalog.sly() returns bigint language sql as 'select 1'",
        forbidden("permission denied for schema pg_catalog"),
        STATEMENT,
    ),
    Attack(
        "schema_made",
        "no further schema can be made",
        "create schema analytics_org_more",
        forbidden("permission denied for database"),
        STATEMENT,
    ),
    Attack(
        "own_schema_renamed",
        "nor the own renamed to what another tenant's will be called",
        "alter schema analytics_org_acme rename to analytics_org_newcomer",
        forbidden("permission denied for database"),
        OF_OWNER,
    ),
)

# What SQL can see all the same. docs/isolation.md lists it.
VISIBLE = (
    Attack(
        "visible_schemas",
        "names of other tenants' schemas",
        "select nspname::text as name from pg_namespace where nspname = 'analytics_org_blue_harbor'",
        Shows((("analytics_org_blue_harbor",),)),
        QUERY,
        is_visible=True,
    ),
    Attack(
        "visible_roles",
        "names of other tenants' roles",
        "select rolname::text as name from pg_roles where rolname ~ 'blue_harbor$' order by rolname",
        Shows((("analytics_org_blue_harbor",), ("analytics_ro_blue_harbor",))),
        QUERY,
        is_visible=True,
    ),
    Attack(
        "visible_settings_of_roles",
        "settings of other tenants' roles",
        "select rolconfig[1] as setting from pg_roles where rolname = 'analytics_org_blue_harbor'",
        Shows((("search_path=analytics_org_blue_harbor",),)),
        QUERY,
        is_visible=True,
    ),
    Attack(
        "visible_relations",
        "names of others' relations and columns",
        "select relname::text as relation, attname::text as name"
        " from pg_class join pg_attribute on attrelid = pg_class.oid"
        " where relnamespace = (select oid from pg_namespace where nspname = 'analytics_org_blue_harbor')"
        " and relname = 'dim_users' and attnum = 1",
        Shows((("dim_users", "user_id"),)),
        QUERY,
        is_visible=True,
    ),
    Attack(
        "visible_view_definitions",
        "the SQL of others' views, with the constants in it",
        "select pg_get_viewdef(oid) like '%organization_id = 2%' as has_its_id from pg_class"
        " where relnamespace = (select oid from pg_namespace where nspname = 'analytics_org_blue_harbor')"
        " and relname = 'stg_issues'",
        Shows(((True,),)),
        QUERY,
        is_visible=True,
    ),
    Attack(
        "visible_comments",
        "comments on others' schemas and relations",
        "select description from pg_description where description like '%blue-harbor%'",
        Shows((("said by blue-harbor",),)),
        QUERY,
        is_visible=True,
    ),
    Attack(
        "visible_functions",
        "the source of functions, that of the gates among them",
        "select prosrc like '%session_user%' as is_shown from pg_proc where proname = 'session_organization_id'"
        " and pronamespace = (select oid from pg_namespace where nspname = 'analytics_raw')",
        Shows(((True,),)),
        QUERY,
        is_visible=True,
    ),
    Attack(
        "visible_counts",
        "how many rows a table had when it was last analysed: all organisations' together for a raw table",
        "select reltuples::bigint as issues from pg_class where relname = 'issues' and relkind = 'r'"
        " and relnamespace = (select oid from pg_namespace where nspname = 'public')",
        Shows(((176,),)),
        QUERY,
        is_visible=True,
    ),
    Attack(
        "visible_sizes",
        "how many bytes others' relations take",
        "select pg_relation_size(oid) > 0 as is_told from pg_class where relname = 'dim_users'"
        " and relnamespace = (select oid from pg_namespace where nspname = 'analytics_org_blue_harbor')",
        Shows(((True,),)),
        QUERY,
        is_visible=True,
    ),
    Attack(
        "visible_activity",
        "how many rows of others' tables were ever written",
        "select n_tup_ins >= 0 as is_told from pg_stat_all_tables"
        " where schemaname = 'analytics_org_blue_harbor' and relname = 'dim_users'",
        Shows(((True,),)),
        QUERY,
        is_visible=True,
    ),
    Attack(
        "visible_sessions",
        "that others have sessions, as whom, and under which application_name: run ids among them",
        "select distinct usename::text as name, application_name, pid > 0 as has_pid from pg_stat_activity"
        " where application_name = 'kiket-run-of-blue-harbor'",
        Shows((("analytics_org_blue_harbor", "kiket-run-of-blue-harbor", True),)),
        QUERY,
        is_visible=True,
    ),
    Attack(
        "visible_estimates",
        "what the planner expects of a comparison, from statistics of all organisations' rows",
        "select analytics_org_acme.plan_of('select from analytics_org_acme.issues_seen where priority = ''medium''')"
        " -> 'Plan Rows' <> analytics_org_acme.plan_of('select from analytics_org_acme.issues_seen"
        " where priority = ''none''') -> 'Plan Rows' as differ",
        Shows(((True,),)),
        QUERY,
        before=(_SEEN, _PLAN),
        is_visible=True,
    ),
    Attack(
        "visible_ids",
        "whether another organisation's row has a given id, by what EXPLAIN ANALYZE says it has filtered out",
        "select coalesce(jsonb_path_query_first(analytics_org_acme.plan_of("
        "'select from analytics_org_acme.issues_seen where id = 20000001'"
        "), '$.**.\"Rows Removed by Filter\"')::int, 0) as there,"
        " coalesce(jsonb_path_query_first(analytics_org_acme.plan_of("
        "'select from analytics_org_acme.issues_seen where id = 29999999'"
        "), '$.**.\"Rows Removed by Filter\"')::int, 0) as not_there",
        Shows(((1, 0),)),
        QUERY,
        before=(_SEEN, _PLAN),
        is_visible=True,
    ),
    Attack(
        "visible_databases",
        "names of other databases of the server",
        "select datname::text as name from pg_database where datname = 'postgres'",
        Shows((("postgres",),)),
        QUERY,
        is_visible=True,
    ),
)
