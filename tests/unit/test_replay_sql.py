"""Reading statements as Postgres does: what they do, and where they name relations of the tenant's schema."""

import pytest

from kiket_worker.dbt.replay.sql import (
    Action,
    NotReplayable,
    asks_catalog,
    asks_columns_of,
    commands_of,
    identifiers_of,
    rows_of,
    unnamed,
    with_names_in_texts,
)

S = '"db"."\x01schema\x02"'


def named(text: str) -> str:
    """A text with `<name>` for a relation of the tenant's schema, as dbt renders it."""
    return text.replace("<", f'{S}."').replace(">", '"')


def actions(text: str) -> list[tuple[str, str | None, str | None]]:
    return [(command.action.value, command.relation, command.name) for command in commands_of(named(text))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select * from <a>", [("work", None, None)]),
        ("/* {} */ create table <a__dbt_tmp> as (select * from <b>)", [("create", "a__dbt_tmp", None)]),
        ("create or replace view <v> as select 1", [("alter", "v", None)]),
        ('create temporary table "t" as (select * from <a>)', [("temporary", "t", None)]),
        ('create unique index if not exists "i" on <a> (id)', [("index", None, "i")]),
        ('create index if not exists "\x01index\x02" on <a> (id)', [("work", None, None)]),
        ('alter table <a> rename to "b"', [("rename", "a", "b")]),
        ("ALTER VIEW <a> RENAME TO b", [("rename", "a", "b")]),
        ("alter table <a> add column x int", [("alter", "a", None)]),
        ('alter table "t" add column x int', [("own", "t", None)]),
        ("drop table if exists <a> cascade", [("drop", "a", None)]),
        ('drop table if exists "t" cascade', [("own", "t", None)]),
        ("truncate table <a>", [("empty", "a", None)]),
        ("refresh materialized view <a>", [("alter", "a", None)]),
        ("begin", [("transaction", None, None)]),
        ("delete from <a>; insert into <a> select * from <b>;", [("work", None, None)] * 2),
        ("-- only a comment ; with a sign\n ; ;", []),
        ("select ';', $$;$$, $x$ ; $y$ $x$, \"a;b\", E'\\';' /* ; /* ; */ ; */", [("work", None, None)]),
        ("comment on table <a> is 'drop table'", [("work", None, None)]),
    ],
)
def test_what_commands_do(text: str, expected: list[tuple[str, str | None, str | None]]) -> None:
    assert actions(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "set search_path = x",
        "reset all",
        "vacuum <a>",
        "create index concurrently i on <a> (id)",
        "drop index i",
        "drop table <a>, <b>",
        "create or replace function f() returns int language sql as 'select 1'",
        "create or replace rule r as on insert to <a> do nothing",
        "create table \x01schema\x02.a (b int)",
        "with x as (select 1 as a) select * into y from x",
        "select 1 -- x\r; set role foo",
        "create function f() returns int language sql as 'select 1'",
        "do $$ begin end $$",
        "call p()",
        "lock table <a>",
        "listen x",
        "copy <a> from stdin",
        "savepoint s",
        "rollback",
        "prepare transaction 'x'",
        "select set_config('a', 'b', false)",
        "select \"set_config\"('a', 'b', false)",
        "select pg_advisory_lock(1)",
        "select * into x from <a>",
        "select 1 /* open",
    ],
)
def test_what_acts_beyond_its_transaction_is_not_replayed(text: str) -> None:
    with pytest.raises(NotReplayable):
        commands_of(named(text))


def test_relations_are_holes_only_where_postgres_sees_a_name() -> None:
    (command,) = commands_of(named("select '<a>', $$<a>$$ /* <a> */ from <a> -- <a>"))
    assert command.text.count("\x01relation:a\x02") == 1
    assert command.text.count('"a"') == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select * from <a>", ""),
        ("select '<a>'", f"select '{S}.\"a\"'"),
        ("select * from \x01schema\x02.a", "select * from \x01schema\x02 . a"),
        ("select 1 /* \x01schema\x02 */", ""),
        ("select count(*) from pg_class where relname = 'a'", "select count ( * ) from pg_class where relname = 'a'"),
        ("select 'a'::regclass from <b>", "select 'a' : : regclass from \"db\" . ."),
        ("select * from analytics_org_\x01slug\x02.a", "select * from analytics_org_\x01slug\x02 . a"),
        ("select \x01id\x02 as a", ""),
    ],
)
def test_what_may_name_a_relation_otherwise(text: str, expected: str) -> None:
    assert unnamed(named(text)).split() == expected.split()


def test_the_words_that_may_name_a_relation_without_its_schema() -> None:
    text = named("with b as (select * from <a>) select c.d, b.x as y from b join e on true join <f> as g on 'h' = i")
    found = identifiers_of(text)
    assert {"c", "d", "e", "i"} <= found
    assert not found & {"a", "b", "f", "g", "h", "y"}


def test_what_asks_the_catalog() -> None:
    assert asks_catalog("select * from information_schema.columns")
    assert asks_catalog('select * from "pg_class"')
    assert not asks_catalog("select 'pg_class' as a -- pg_class")


def test_the_rows_of_a_table_are_put_where_it_is() -> None:
    made = named("/* c */ create  table <a__dbt_tmp>\n as\n (\n select 1 as b from <c>\n );")
    assert rows_of(made, "a__dbt_tmp", "a") == (
        f'insert into "db"."\x01schema\x02"."\x01relation:a\x02"\n(\n select 1 as b from {S}."\x01relation:c\x02"\n )'
    )
    declared = named("create table <a__dbt_tmp> (b int); insert into <a__dbt_tmp> (b) (select 1)")
    assert rows_of(declared, "a__dbt_tmp", "a") == f' insert into {S}."\x01relation:a\x02" (b) (select 1)'
    assert rows_of(named("create table <a__dbt_tmp> with (fillfactor=70) as (select 1)"), "a__dbt_tmp", "a") is None
    assert rows_of(named("create table <other> as (select 1)"), "a__dbt_tmp", "a") is None


def test_a_question_for_columns_is_known_by_dbts_own_words() -> None:
    question = (
        "/* c */\n\n      select\n          column_name,\n          data_type,\n          character_maximum_length,\n"
        '          numeric_precision,\n          numeric_scale\n\n      from "db".INFORMATION_SCHEMA.columns\n'
        "      where table_name = 'a'\n        \n        and table_schema = '\x01schema\x02'\n        \n"
        "      order by ordinal_position\n\n  "
    )
    assert asks_columns_of(question) == '"\x01schema\x02"."a"'
    holed = with_names_in_texts(question, {"a"})
    assert asks_columns_of(holed) == '"\x01schema\x02"."\x01relation:a\x02"'
    assert asks_columns_of(question.replace("order by", "and 1 = 2 order by")) is None
    assert Action("work") is Action.WORK
