"""What SQL of models may say."""

import pytest

from kiket_worker.definitions.policy.sql import MOST_BYTES, Fault, check_expression, check_sql, line_in_source


def rules_of(text: str) -> set[str]:
    return {fault.rule.name for fault in check_sql(text, {"own"})}


@pytest.mark.parametrize(
    "text",
    [
        "select 1 as one",
        "with recursive t(n) as (select 1 union all select n + 1 from t where n < 5) select n from t",
        "(select 1) union all (select 2) order by 1 limit 3",
        "select a.data ->> 'x', count(*) filter (where a.ok) from own.b as a group by grouping sets ((1), ())",
        "select percentile_cont(0.5) within group (order by x) from own.b",
        "select x at time zone 'utc', now()::date - 7, interval '1 day' from own.b, lateral (select b.y) as l",
        "select row_number() over (partition by a order by b rows between 1 preceding and current row) from own.c",
        "select ';', 'drop table x', e'\\'; --' /* ; /* nested ; */ */ -- ; drop",
        "select $$ ; drop table x $$ as text",
        "select gen_random_uuid(), random(), generate_series(1, 3), pg_typeof(1)",
        "select distinct on (a) a, b from own.c order by a, b desc nulls last",
        "select array_agg(x order by y), string_agg(z, ','), (array[1, 2])[1] from own.c",
        "select copysign(1, -1) as pg_like\f from own.c",
        "values (1), (2)",
        "with pg_days as (select 1 as x), b as (select x from pg_days) select * from b join PG_days using (x)",
        'with recursive "A" as (select 1 as x union all select x from "A") select * from "A"',
        "with a as (select 1) select (with b as (select * from a) select count(*) from b) from a",
        "select * from own.c, generate_series(1, 3) as d, lateral jsonb_to_recordset(c.x) as y(b int)",
        'select * from "kiket"."own"."c"',
    ],
)
def test_a_select_that_computes_is_accepted(text: str) -> None:
    assert check_sql(text, {"own"}) == []


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("select 1; select 2", "sql-select"),
        ("select 1;", "sql-select"),
        ("", "sql-select"),
        ("-- nothing", "sql-select"),
        ("with a as (delete from x returning *) select * from a", "sql-select"),
        ("with a as (update x set y = 1 returning *) select * from a", "sql-select"),
        ("with a as (insert into x values (1) returning *) select * from a", "sql-select"),
        ("select * into y from x", "sql-select"),
        ("select * from x for update", "sql-select"),
        ("drop table x", "sql-select"),
        ("copy x to program 'sh'", "sql-select"),
        ("do $$ begin perform 1; end $$", "sql-select"),
        ("set role postgres", "sql-select"),
        ("vacuum", "sql-select"),
        ("call x()", "sql-select"),
        ("select pg_read_file('/etc/passwd')", "sql-function"),
        ("select PG_READ_FILE('/etc/passwd')", "sql-function"),
        ("select pg_catalog.\"pg_read_file\"('x')", "sql-function"),
        ("select * from pg_ls_dir('.')", "sql-function"),
        ("select set_config('role', 'x', false)", "sql-function"),
        ("select * from dblink('x', 'select 1') as t(a int)", "sql-function"),
        ("select lo_import('/etc/passwd')", "sql-function"),
        ("select query_to_xml('drop table x', true, true, '')", "sql-function"),
        ("select pg_sleep(100)", "sql-function"),
        ("select pg_advisory_lock(1)", "sql-function"),
        ("select nextval('s')", "sql-function"),
        ("select * from pg_roles", "sql-catalog"),
        ("select * from information_schema.tables", "sql-catalog"),
        ('select * from "pg_catalog"."pg_class"', "sql-catalog"),
        ("select 'x'::regclass", "sql-catalog"),
        ("select cast('x' as regrole)", "sql-catalog"),
        ("select obj_description(1), format_type(1, 2)", "sql-function"),
        ("select public.anything(1)", "sql-function"),
        ("select * from public.anything(1)", "sql-function"),
        ("select * from public.users", "sql-table"),
        ("select * from analytics_org_other.fct_throughput", "sql-table"),
        ("select * from users", "sql-table"),
        ("table public.users", "sql-table"),
        ("with users as (select * from users) select * from users", "sql-table"),
        ("with b as (select * from users), users as (select 1) select * from b", "sql-table"),
        ("select * from users, (with users as (select 1) select * from users) as x", "sql-table"),
        ('with users as (select 1) select * from "USERS"', "sql-table"),
        ('select * from "OWN".c', "sql-table"),
        ("select (", "sql-syntax"),
        ("select U&\"\\0070g_read_file\"('/etc/passwd')", "sql-syntax"),
        ("select 'unclosed", "sql-syntax"),
        ("select " + "(" * 5000 + "1" + ")" * 5000, "sql-size"),
        ("select '" + "x" * MOST_BYTES + "'", "sql-size"),
    ],
)
def test_anything_else_is_refused_by_its_rule(text: str, rule: str) -> None:
    assert rule in rules_of(text)


def test_a_fault_is_told_in_the_line_of_the_authors_own_text() -> None:
    source = "-- words\n{{ config(materialized='view') }}\nselect\n    pg_sleep(1) as slept\n"
    (fault,) = check_sql("select\n    pg_sleep(1) as slept\n", ())

    assert line_in_source(fault, source, "") == 4


def test_a_fault_without_a_word_is_told_where_the_compiled_line_stands_in_the_source() -> None:
    (fault,) = check_sql("select 1\nfrom (x\nwhere y", ())
    known = Fault(fault.rule, fault.message, "", 2)

    assert line_in_source(known, "{# a #}\nselect 1\nfrom (x\nwhere y", "select 1\nfrom (x\nwhere y") == 3


@pytest.mark.parametrize(
    "text",
    [
        "id",
        '"two words"',
        "lower(name) || '; --'",
        "DBT_INTERNAL_DEST.recorded_at > current_date - 3",
        "x > (select max(y) from own.c)",
    ],
)
def test_an_expression_is_accepted(text: str) -> None:
    assert check_expression(text, {"own"}) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a, b",
        "true) or (true",
        "a from own.c",
        "a;",
        "-- nothing",
        "a -- the rest",
        "a /* the rest */",
        "a as b",
        "select 1",
        "drop table own.c",
        "1; drop table own.c",
        "pg_sleep(1) is null",
        "x in (select id from public.users)",
        "'unclosed",
        "a = U&'\\0061'",
        "(" * 5000 + "1" + ")" * 5000,
    ],
)
def test_what_is_more_than_an_expression_is_refused(text: str) -> None:
    assert check_expression(text, {"own"}) != []
