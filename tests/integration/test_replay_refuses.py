"""Models that do more with the tenant or the time than print it are never replayed: each is named, with its line."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kiket_worker.dbt.bundle import Bundle
from kiket_worker.dbt.replay.compiled import Compiled
from tests.support.twins import PROJECTS, Twins, project, twins

HOSTILE = PROJECTS / "hostile"
# Where something else is named than the model itself: the macro that looks, or the configuration in YAML.
ELSEWHERE = {
    "through_macro": r"macros/is_acme\.sql, line 1: compares",
    "disabled_for_some": r"the project's configuration, line 1: compares",
    "named_by_id": r"the project's configuration, line 1: tests .* \(is even\)",
}


@pytest.fixture(scope="module")
def hostile(sample_databases: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with twins(sample_databases, Bundle(HOSTILE), tmp_path_factory.mktemp("hostile")) as made:
        yield made


@pytest.fixture(scope="module")
def compiled(hostile: Twins) -> Compiled:
    return hostile.replayed.compile(hostile.add("any"))


@pytest.mark.parametrize("model", sorted(path.stem for path in (HOSTILE / "models").glob("*.sql")))
def test_a_model_that_looks_at_the_tenant_or_the_time_is_named_with_its_line(model: str, compiled: Compiled) -> None:
    wanted = ELSEWHERE.get(model, rf"models/{model}\.sql, line [1-9]\d*: ")
    assert any(re.match(wanted, reason) for reason in compiled.reasons), compiled.reasons


def test_nothing_of_the_probes_is_left_behind(hostile: Twins, compiled: Compiled) -> None:
    assert compiled.reasons
    assert_nothing_of_probes(hostile)


def assert_nothing_of_probes(hostile: Twins) -> None:
    rows = hostile.replayed.installation.rows
    assert rows("select rolname from pg_roles where rolname like '%%probe%%'") == []
    assert rows("select nspname from pg_namespace where nspname like '%%probe%%'") == []
    assert rows("select schema_name from kiket_analytics.tenants where schema_name like '%%probe%%'") == []
    assert rows("select schema_name from kiket_analytics.leases where schema_name like '%%probe%%'") == []


def test_such_a_project_is_run_by_dbt_itself_and_the_reason_is_told(hostile: Twins, compiled: Compiled) -> None:
    candidate = hostile.add("acme-2")
    outcome = hostile.replayed.run(candidate, selection=("compares_id",))
    assert outcome.deoptimised is not None
    assert (outcome.engine, outcome.deoptimised.reason) == ("executable", "selection")
    outcome = hostile.replayed.run(candidate)
    assert outcome.deoptimised is not None
    assert (outcome.engine, outcome.deoptimised.reason) == ("executable", "not_replayable")
    assert outcome.deoptimised.words == compiled.reasons[0]


@pytest.mark.parametrize(
    ("name", "model", "words"),
    [
        ("unread", "{{ config( }}select 1 as a", "unexpected '}'"),
        ("unbuilt", "select nothing as a", 'column "nothing" does not exist'),
    ],
)
def test_a_project_that_dbt_cannot_read_or_build_says_why_and_fails_by_dbts_own_words(
    hostile: Twins, tmp_path: Path, name: str, model: str, words: str
) -> None:
    bundle = project(tmp_path / "project", {"broken": model}, like="hostile")
    side = replace(hostile.replayed, bundle=bundle, folder=tmp_path)
    candidate = hostile.add(name)
    explained = side.compile(candidate)
    assert any(words in reason for reason in explained.reasons), explained.reasons
    assert_nothing_of_probes(hostile)
    outcome = side.run(candidate)
    assert outcome.deoptimised is not None
    assert (outcome.engine, outcome.deoptimised.reason) == ("executable", "not_replayable")
    assert outcome.failure is not None
    assert words in str(outcome.failure)
    assert side.relations(candidate) == {}
