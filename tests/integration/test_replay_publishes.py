"""What readers see of a replay: the old state or the new one, whole, whatever fails, waits or was changed by hand."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from kiket_worker.dbt.engine import Cancellation
from kiket_worker.dbt.failing_sql import failing_sql
from kiket_worker.errors import DatabaseInterrupted, ModelFailed, RunCancelled
from kiket_worker.tenants.provisioning import Candidate
from kiket_worker.tenants.schema import schema_name
from tests.support.dbt_scripts import until
from tests.support.twins import Twins, project, twins

MODELS = {
    "stg": "select id as issue_id, status from {{ source('raw', 'issues') }} where {{ mine('organization_id') }}",
    "facts": "{{ config(materialized='table', indexes=[{'columns': ['issue_id'], 'unique': true}]) }}"
    "select issue_id, status from {{ ref('stg') }}",
    "history": "{{ config(materialized='incremental', unique_key='issue_id') }} select * from {{ ref('facts') }}",
    "summary": "select status, count(*) as issues from {{ ref('facts') }} group by 1",
    # Fails where an organisation has exactly 13 issues, and takes long where it has exactly 17.
    "unlucky": "{{ config(materialized='table') }} select 1 / (count(*) - 13) as a from {{ ref('facts') }}",
    "below": "select * from {{ ref('unlucky') }}",
    "slow": "{{ config(materialized='table') }} select count(*) as n from {{ ref('facts') }} as f, lateral"
    " (select sum(sqrt(g)) from generate_series(1, case when (select count(*) from {{ ref('facts') }}) = 17"
    " then 300000000 else 1 end) as g where g > f.issue_id - 100000000) as s",
}


@pytest.fixture(scope="module")
def made(sample_databases: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    folder = tmp_path_factory.mktemp("publishes")
    bundle = project(folder / "project", MODELS)
    with twins(sample_databases, bundle, folder / "sides") as twin:
        compiled = twin.replayed.compile(twin.add("compiler"))
        assert compiled.reasons == ()
        yield twin


class Organization:
    """One organisation on both sides, refreshed there once."""

    def __init__(self, made: Twins, slug: str, issues: int = 5) -> None:
        self.made = made
        self.candidate: Candidate = made.add(slug)
        self.schema = schema_name(slug)
        self.give(issues)

    def give(self, count: int) -> None:
        """As many issues as this in all."""
        number = self.candidate.organization_id
        self.made.execute(
            "insert into public.projects values (%s, %s, 'P', 'p', false, '2026-01-01') on conflict do nothing",
            10_000 + number,
            number,
        )
        self.made.execute("delete from public.issues where organization_id = %s", number)
        self.made.execute(
            "insert into public.issues"
            " (id, organization_id, project_id, title, status, issue_type, priority, created_at, updated_at)"
            " select %s + n, %s, %s, 'it', case when n %% 2 = 0 then 'done' else 'todo' end, 'task', 'low',"
            " now(), now()"
            " from generate_series(1, %s) as n",
            10**9 + 1000 * number,
            number,
            10_000 + number,
            count,
        )

    def replay(self, **options: Any) -> Any:
        return self.made.replayed.run(self.candidate, **options)

    def refresh_both(self) -> None:
        for outcome in self.made.run(self.candidate):
            assert outcome.failure is None

    def rows(self, query: str, *parameters: object) -> list[Any]:
        return self.made.replayed.installation.rows(query.replace("SCHEMA", self.schema), *parameters)

    def execute(self, text: str) -> None:
        self.made.replayed.installation.execute(text.replace("SCHEMA", self.schema))

    def ids(self) -> dict[str, int]:
        """The numbers of the relations: another one is another relation, whatever it is called."""
        query = "select relname, oid::bigint as id from pg_class where relnamespace = %s::regnamespace"
        return {row["relname"]: row["id"] for row in self.rows(query + " and relkind in ('r', 'v')", self.schema)}

    def assert_replayed(self, outcome: Any) -> None:
        assert outcome.deoptimised is None
        assert outcome.failure is None


def test_what_is_right_stays_and_rows_are_replaced_where_they_are(made: Twins) -> None:
    organization = Organization(made, "stays")
    organization.assert_replayed(organization.replay())
    before = organization.ids()
    organization.give(7)
    organization.assert_replayed(organization.replay())
    assert organization.ids() == before
    assert organization.rows("select count(*) as n from SCHEMA.facts") == [{"n": 7}]


def test_a_failing_model_leaves_everything_as_it_was(made: Twins) -> None:
    organization = Organization(made, "unlucky")
    organization.refresh_both()
    before = made.replayed.relations(organization.candidate)
    organization.give(13)
    replayed, by_dbt = made.run(organization.candidate)
    assert isinstance(replayed.failure, ModelFailed)
    assert isinstance(by_dbt.failure, ModelFailed)
    assert replayed.engine == "replay"
    assert {model.model_id: model.status for model in replayed.models} == {
        model.model_id: model.status for model in by_dbt.models
    }
    of_both = [
        next(model.message for model in outcome.models if model.model_id == "model.made.unlucky")
        for outcome in (replayed, by_dbt)
    ]
    assert [message.partition("\n  compiled code at ")[0] for message in of_both if message] == [
        "Database Error in model unlucky (models/unlucky.sql)\n  division by zero"
    ] * 2
    # What the console shows of it: the same SQL.
    shown = []
    for side, outcome in zip(made.sides, (replayed, by_dbt), strict=True):
        results = outcome.files["run_results.json"].read_text().replace(side.connection.database, "DATABASE")
        found = failing_sql(results.encode(), None)
        shown.append([(one.node_id, one.path, one.lines, one.is_compiled) for one in found])
    assert shown[0] == shown[1]
    ((_, _, lines, is_compiled),) = shown[0]
    assert is_compiled
    assert any("select 1 / (count(*) - 13)" in line.text for line in lines)
    assert made.replayed.relations(organization.candidate) == before


def test_a_failing_model_holds_up_only_what_waits_for_it_where_that_is_wanted(made: Twins) -> None:
    organization = Organization(made, "partial")
    organization.refresh_both()
    organization.give(13)
    made.replayed.replay._partial = True
    try:
        replayed, by_dbt = made.run(organization.candidate)
    finally:
        made.replayed.replay._partial = False
    assert isinstance(replayed.failure, ModelFailed)
    assert isinstance(by_dbt.failure, ModelFailed)
    assert organization.rows("select count(*) as n from SCHEMA.facts") == [{"n": 13}]
    made.assert_equal(organization.candidate)


# By hand, as the organisation's own role; several that are independent of each other in one go.
CHANGES = {
    "rights, words, indexes, columns and views": (
        "create index on SCHEMA.facts (status)",
        "grant select on SCHEMA.facts, SCHEMA.stg to analytics_readers",
        "comment on table SCHEMA.unlucky is 'mine'",
        "drop view SCHEMA.summary",
        "drop table SCHEMA.history",
        "alter table SCHEMA.slow add column mine integer",
        "create or replace view SCHEMA.below as select a, a as b from SCHEMA.unlucky",
    ),
    "others where they were, columns that are gone, and a view of one's own": (
        "alter table SCHEMA.facts drop column status cascade",
        "create table SCHEMA.summary (a integer)",
        "drop table SCHEMA.slow",
        "create view SCHEMA.slow as select 1 as n",
        "create view SCHEMA.mine as select * from SCHEMA.facts",
    ),
    "what an interrupted dbt has left": (
        "create table SCHEMA.facts__dbt_backup (a integer)",
        "alter table SCHEMA.facts alter column status set not null",
    ),
}


def test_what_was_changed_by_hand_is_as_dbt_would_leave_it(made: Twins) -> None:
    """Made right by the replay, or by dbt itself where it was never recorded so: never anything else."""
    organization = Organization(made, "by-hand")
    organization.refresh_both()
    deoptimised = {}
    for what, statements in CHANGES.items():
        for statement in statements:
            for side in made.sides:
                text = statement.replace("SCHEMA", organization.schema)
                side.installation.execute(f"set role {organization.schema}; {text}")
        outcome = organization.replay()
        by_dbt = made.by_dbt.run(organization.candidate, by="executable")
        assert (outcome.failure, by_dbt.failure) == (None, None), what
        replayed, expected = (side.relations(organization.candidate) for side in made.sides)
        assert replayed == expected, what
        if outcome.deoptimised:
            deoptimised[what] = outcome.deoptimised.reason
    # Only what dbt was never recorded with goes to dbt itself.
    assert deoptimised == {"what an interrupted dbt has left": "relation_state"}


def test_readers_meet_no_error_and_no_half_state_while_tables_are_swapped(made: Twins) -> None:
    organization = Organization(made, "readers", issues=4)
    organization.assert_replayed(organization.replay())
    reader = made.replayed.installation.reader("readers")
    stop, faults, seen = threading.Event(), [], set()

    def read() -> None:
        with reader, reader.cursor() as cursor:
            while not stop.is_set():
                try:
                    cursor.execute(
                        f"select (select count(*) from {organization.schema}.facts) as facts,"
                        f" (select sum(issues) from {organization.schema}.summary) as summed"
                    )
                    seen.add(tuple(cursor.fetchone().values()))
                except psycopg.Error as fault:
                    faults.append(fault)

    thread = threading.Thread(target=read)
    thread.start()
    for issues in (5, 6, 7, 8):
        organization.give(issues)
        # Another definition than dbt's: the table is made anew and swapped, with the view above it.
        if issues % 2:
            organization.execute("create index on SCHEMA.facts (status)")
        organization.assert_replayed(organization.replay())
    stop.set()
    thread.join()
    assert faults == []
    assert {facts for facts, _ in seen} <= {4, 5, 6, 7, 8}
    assert all(facts == summed for facts, summed in seen)


def test_a_reader_that_stays_is_waited_for_and_never_cancelled(made: Twins) -> None:
    organization = Organization(made, "stayer")
    organization.assert_replayed(organization.replay())
    before = organization.ids()
    organization.execute("create index on SCHEMA.facts (status)")
    with made.replayed.installation.reader("stayer") as reader, reader.transaction():
        reader.execute(f"select * from {organization.schema}.summary")
        outcomes: list[Any] = []
        thread = threading.Thread(target=lambda: outcomes.append(organization.replay()))
        thread.start()
        query = "select count(*) as n from pg_locks where not granted"
        until(lambda: organization.rows(query)[0]["n"], "the swap to wait for the reader")
        # While it steps back, others pass.
        with made.replayed.installation.reader("stayer") as another:
            assert another.execute(f"select count(*) as n from {organization.schema}.summary").fetchone()
        assert reader.execute(f"select count(*) as n from {organization.schema}.facts").fetchone() == {"n": 5}
        assert not outcomes
    thread.join(20)
    organization.assert_replayed(outcomes[0])
    assert organization.ids()["facts"] != before["facts"]


def test_a_reader_of_an_older_snapshot_keeps_its_rows(made: Twins) -> None:
    organization = Organization(made, "snapshot")
    organization.assert_replayed(organization.replay())
    with made.replayed.installation.reader("snapshot") as reader:
        reader.execute("begin isolation level repeatable read")
        query = f"select count(*) as n from {organization.schema}.facts"
        assert reader.execute("select 1 as one").fetchone() == {"one": 1}
        organization.give(9)
        organization.assert_replayed(organization.replay())
        assert reader.execute(query).fetchone() == {"n": 5}
    assert organization.rows("select count(*) as n from SCHEMA.facts") == [{"n": 9}]


def test_a_run_that_is_cancelled_ends_at_once_and_leaves_everything_as_it_was(made: Twins) -> None:
    organization = Organization(made, "cancelled")
    organization.assert_replayed(organization.replay())
    before = made.replayed.relations(organization.candidate)
    organization.give(17)
    cancellation = Cancellation()
    outcomes: list[Any] = []
    side = made.replayed
    thread = threading.Thread(
        target=lambda: outcomes.append(
            side.replay.run(
                side.bundle, side.tenant(organization.candidate), side.options(), lambda _: None, cancellation
            )
        )
    )
    thread.start()
    slow = "select count(*) as n from pg_stat_activity where query like '%%generate_series%%' and state = 'active'"
    until(lambda: organization.rows(slow + " and usename = %s", organization.schema)[0]["n"], "the slow model")
    began = time.monotonic()
    cancellation.cancel(RunCancelled("enough"))
    thread.join(20)
    assert not thread.is_alive()
    assert time.monotonic() - began < 15
    assert isinstance(outcomes[0].failure, RunCancelled)
    assert made.replayed.relations(organization.candidate) == before
    sessions = "select count(*) as n from pg_stat_activity where usename = %s"
    until(lambda: organization.rows(sessions, organization.schema)[0]["n"] == 0, "the session to be gone")


def test_a_session_that_is_ended_from_outside_leaves_everything_as_it_was(made: Twins) -> None:
    organization = Organization(made, "fenced")
    organization.assert_replayed(organization.replay())
    before = made.replayed.relations(organization.candidate)
    organization.give(17)
    outcomes: list[Any] = []
    thread = threading.Thread(target=lambda: outcomes.append(organization.replay()))
    thread.start()
    end = (
        "select pg_terminate_backend(pid) as n from pg_stat_activity"
        " where query like '%%generate_series%%' and state = 'active' and usename = %s"
    )
    until(lambda: organization.rows(end, organization.schema), "the slow model")
    thread.join(20)
    assert isinstance(outcomes[0].failure, DatabaseInterrupted)
    assert made.replayed.relations(organization.candidate) == before


def test_a_large_table_is_swapped_and_not_filled_with_dead_rows(made: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    organization = Organization(made, "large")
    organization.assert_replayed(organization.replay())
    before = organization.ids()
    monkeypatch.setattr("kiket_worker.dbt.replay.relations._IN_PLACE_BYTES", 0)
    organization.assert_replayed(organization.replay())
    after = organization.ids()
    assert after["facts"] != before["facts"]
    assert after["summary"] != before["summary"]
    assert after["stg"] == before["stg"]
    assert after["history"] == before["history"]
