"""Compiled bundles: recorded once for all workers, checked when they are loaded, taught, and given up when refuted."""

import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kiket_worker.dbt.engine import Cancellation
from kiket_worker.dbt.replay import compiled as compiled_bundles
from kiket_worker.dbt.replay.replayer import Deoptimised
from kiket_worker.errors import ArtifactsUnreachable, DbtKilled, DbtTimedOut
from kiket_worker.ledger import leases
from kiket_worker.refresh import compilation, recordings
from kiket_worker.telemetry.logs import set_up_logs, silence_logs
from tests.support.twins import Side, Twins, project, stored_bundle, twins

MODELS = {
    "plain": "{{ config(materialized='table') }} select id, title from {{ source('raw', 'issues') }}"
    " where {{ mine('organization_id') }}",
    "asked": "-- depends_on: {{ ref('stg_issues') }}\n"
    "{% set names = statuses() %}select {{ names | length }} as n, '{{ names | join('-') }}' as names",
    "stg_issues": "select status from {{ source('raw', 'issues') }} where {{ mine('organization_id') }}",
}


@pytest.fixture(scope="module")
def made(sample_databases: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    folder = tmp_path_factory.mktemp("compilation")
    with twins(sample_databases, project(folder / "project", MODELS), folder / "sides") as twin:
        yield twin


@pytest.fixture(scope="module")
def side(made: Twins) -> Side:
    """A side whose bundle is compiled."""
    assert made.replayed.compile(made.add("first")).reasons == ()
    return made.replayed


@pytest.fixture
def stored(side: Side) -> Iterator[Path]:
    """Where the compiled bundle is stored; what a test writes there is gone afterwards."""
    path = stored_bundle(side)
    whole = path.read_bytes()
    yield path
    path.write_bytes(whole)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    set_up_logs(stream)
    yield stream
    silence_logs()


def events(log: io.StringIO, name: str) -> list[dict[str, Any]]:
    return [event for event in map(json.loads, log.getvalue().splitlines()) if event["event"] == name]


def another_worker(side: Side) -> Side:
    """A worker of its own on the same installation and store."""
    return replace(side)


def test_what_one_worker_has_compiled_another_one_loads(made: Twins, side: Side, monkeypatch: Any) -> None:
    another = another_worker(side)
    monkeypatch.setattr(recordings, "run_child", lambda *_, **__: pytest.fail("dbt is recorded again"))
    outcome = another.run(made.add("loads"))
    assert (outcome.engine, outcome.deoptimised, outcome.failure) == ("replay", None, None)


def test_while_one_worker_compiles_no_other_one_does_and_refreshes_go_on(
    made: Twins, side: Side, monkeypatch: Any
) -> None:
    another = another_worker(side)
    monkeypatch.setattr(another.compiled, "key", lambda *_: "0" * 64)  # A bundle that nobody has compiled.
    database = side.installation.ledger
    epoch = leases.acquire_schema(database, compilation.LEASE, worker="another", ttl_seconds=60)
    assert epoch is not None
    try:
        monkeypatch.setattr(recordings, "run_child", lambda *_, **__: pytest.fail("dbt is recorded twice"))
        assert another.compile_or_none(made.add("waits")) is None
    finally:
        leases.release_schema(database, compilation.LEASE, epoch)


@pytest.mark.parametrize("content", [b"", b"no gzip", compiled_bundles.Compiled("of another key", {}).dump()])
def test_a_damaged_compiled_bundle_is_told_and_counts_as_none(
    content: bytes, side: Side, stored: Path, log: io.StringIO
) -> None:
    stored.write_bytes(content)
    another = another_worker(side)
    assert another.compiled._stored(stored.parent.name) is None
    assert events(log, "engine.compilation_failed")[0]["error_kind"] == "compiled_bundle_damaged"


def test_a_bundle_is_loaded_again_only_where_another_one_is_stored(side: Side, stored: Path) -> None:
    key = stored.parent.name
    another = another_worker(side)
    known = another.compiled._stored(key)
    assert known is not None
    assert another.compiled._stored(key) is known
    stored.write_bytes(replace(known, learned=known.learned + 1).dump())
    changed = another.compiled._stored(key)
    assert changed == replace(known, learned=known.learned + 1)


def test_what_was_read_late_does_not_take_the_place_of_a_bundle_that_was_refuted_meanwhile(
    side: Side, stored: Path, monkeypatch: Any
) -> None:
    key = stored.parent.name
    another = another_worker(side)
    refuted = compiled_bundles.Compiled(key, {}, ("not as dbt does",))
    read = another.store.get

    def read_late(name: str) -> bytes:
        content = read(name)
        another.compiled._save(refuted, refuted.dump())
        return content

    monkeypatch.setattr(another.store, "get", read_late)
    assert another.compiled._stored(key) is refuted


@pytest.mark.parametrize(("killed", "other"), [("first", "second"), ("second", "first")])
def test_where_one_recorder_is_killed_the_other_ends_and_nobody_tries_again_at_once(
    made: Twins, side: Side, monkeypatch: Any, killed: str, other: str
) -> None:
    another = another_worker(side)
    monkeypatch.setattr(another.compiled, "key", lambda *_: "1" * 64)  # A bundle that nobody has compiled.
    ended: list[str] = []

    def run_child(_: list[str], *, folder: Path, cancellation: Cancellation, **__: Any) -> int:
        if folder.name == killed:
            raise DbtKilled("out of memory")
        stopped = threading.Event()
        with cancellation.reaching(stopped.set, lambda _: None):
            assert stopped.wait(30)
        ended.append(folder.name)
        return -9

    monkeypatch.setattr(recordings, "run_child", run_child)
    candidate = made.add(f"killed-{killed}")
    with pytest.raises(DbtKilled):
        another.compile_or_none(candidate)
    assert ended == [other]
    monkeypatch.setattr(another.compiled, "_begin", lambda _: pytest.fail("it is tried again at once"))
    with pytest.raises(Deoptimised):
        another.compiled.find(another.bundle, another.tenant(candidate), another.options())


def test_an_answer_that_is_not_known_is_learned_once_and_then_replayed(
    made: Twins, side: Side, log: io.StringIO
) -> None:
    another = another_worker(side)
    candidate = made.add("asks")
    give(made, candidate.organization_id, ("todo", "done", "blocked"))
    outcome = another.run(candidate)
    assert outcome.failure is None
    assert outcome.deoptimised is not None
    assert (outcome.engine, outcome.deoptimised.reason) == ("executable", "answer")
    another.compiled.settle()
    assert [event["answers"] for event in events(log, "engine.learned")] == [1]

    second = made.add("asks-too")
    give(made, second.organization_id, ("done", "todo", "blocked"))
    outcome = another.run(second)
    assert (outcome.engine, outcome.deoptimised, outcome.failure) == ("replay", None, None)
    asked = side.installation.rows("select n, names from analytics_org_asks_too.asked")
    assert asked == [{"n": 3, "names": "blocked-done-todo"}]
    assert made.by_dbt.run(second, by="executable").failure is None
    made.assert_equal(second)


def test_what_a_replay_gives_over_to_dbt_has_what_is_left_of_one_time_limit(
    made: Twins, side: Side, tmp_path: Path, monkeypatch: Any
) -> None:
    """Both parts are shorter than the limit, and longer together."""
    slow = tmp_path / "dbt"
    slow.write_text("#!/bin/sh\nexec sleep 1.5\n")
    slow.chmod(0o755)
    another = another_worker(side)

    def look_for_long(key: str) -> None:
        threading.Event().wait(1.5)
        _unreachable(key)

    monkeypatch.setattr(another.compiled, "_stored", look_for_long)
    monkeypatch.setattr(another.executable, "_executable", slow)
    monkeypatch.setattr(another.replay, "_time_limit_seconds", 2)
    outcome = another.run(made.add("late"))
    assert (outcome.engine, type(outcome.failure)) == ("executable", DbtTimedOut)


def test_answers_are_learned_up_to_a_bound(made: Twins, side: Side, monkeypatch: Any) -> None:
    another = another_worker(side)
    monkeypatch.setattr(compilation, "_MOST_ANSWERS", 0)
    monkeypatch.setattr(another.compiled, "_begin", lambda _: pytest.fail("one answer more is learned"))
    candidate = made.add("bounded")
    give(made, candidate.organization_id, ("cancelled",))
    outcome = another.run(candidate)
    assert outcome.deoptimised is not None
    assert outcome.deoptimised.reason == "answer"


def test_a_check_against_dbt_confirms_what_is_replayed(made: Twins, side: Side, log: io.StringIO) -> None:
    another = another_worker(side)
    another.replay._checked_share, another.replay._random = 1.0, lambda: 0.5
    candidate = made.add("checked")
    assert another.run(candidate).deoptimised is None
    another.compiled.settle()
    assert [event["organization"] for event in events(log, "engine.checked")] == ["checked"], log.getvalue()
    assert another.run(candidate).deoptimised is None
    another.compiled.settle()
    assert side.installation.rows("select from pg_namespace where nspname like '%%probe%%'") == []


def test_a_check_against_dbt_that_finds_a_difference_is_an_alert_and_ends_replaying(
    made: Twins, side: Side, stored: Path, log: io.StringIO
) -> None:
    known = compiled_bundles.load(stored.read_bytes(), stored.parent.name)
    nodes = [node for node in known.nodes if node.name == "plain"]
    forged = replace(nodes[0], traces=tuple(_forged(trace) for trace in nodes[0].traces))
    stored.write_bytes(replace(known, nodes=tuple(forged if n is nodes[0] else n for n in known.nodes)).dump())
    another = another_worker(side)
    another.replay._checked_share, another.replay._random = 1.0, lambda: 0.5
    candidate = made.add("refuted")
    assert another.run(candidate).deoptimised is None
    another.compiled.settle()
    (event,) = events(log, "engine.refuted")
    assert (event["level"], event["organization"]) == ("error", "refuted")
    assert event["reasons"] == ["model.made.plain: dbt's statements are others"]
    outcome = another_worker(side).run(candidate)
    assert outcome.deoptimised is not None
    assert outcome.deoptimised.reason == "not_replayable"


def test_a_worker_that_cannot_reach_its_store_refreshes_all_the_same(made: Twins, side: Side, monkeypatch: Any) -> None:
    another = another_worker(side)
    monkeypatch.setattr(another.compiled, "_stored", _unreachable)
    outcome = another.run(made.add("no-store"))
    assert outcome.deoptimised is not None
    assert (outcome.engine, outcome.failure) == ("executable", None)
    another.compiled.settle()


def _unreachable(key: str) -> None:
    raise ArtifactsUnreachable("the store is away")


def _forged(trace: compiled_bundles.Trace) -> compiled_bundles.Trace:
    def forge(text: str) -> str:
        return text.replace("id, title", "title, id")

    return replace(
        trace,
        steps=tuple(
            replace(
                step,
                text=forge(step.text),
                commands=tuple(replace(command, text=forge(command.text)) for command in step.commands),
            )
            for step in trace.steps
        ),
    )


def give(made: Twins, number: int, statuses: tuple[str, ...]) -> None:
    made.execute(
        "insert into public.projects values (%s, %s, 'P', 'p', false, '2026-01-01') on conflict do nothing",
        10_000 + number,
        number,
    )
    for position, status in enumerate(statuses):
        made.execute(
            "insert into public.issues"
            " (id, organization_id, project_id, title, status, issue_type, priority, created_at, updated_at)"
            " values (%s, %s, %s, 'it', %s, 'task', 'low', now(), now())",
            10**9 + 1000 * number + position,
            number,
            10_000 + number,
            status,
        )


def test_threads_that_ask_at_once_compile_once(side: Side) -> None:
    counted: list[int] = []
    gate = threading.Event()
    another = another_worker(side)
    another.compiled._begin(lambda _: (counted.append(1), gate.wait(10)))
    another.compiled._begin(lambda _: counted.append(2))
    gate.set()
    another.compiled.settle()
    assert counted == [1]


def test_what_goes_on_ends_with_the_worker_and_nothing_begins_any_more(side: Side) -> None:
    another = another_worker(side)
    ended: list[str] = []

    def work(cancellation: Cancellation) -> None:
        stopped = threading.Event()
        with cancellation.reaching(stopped.set, lambda _: None):
            assert stopped.wait(30)
        ended.append("stopped")

    another.compiled._begin(work)
    another.compiled.close()
    another.compiled._begin(lambda _: ended.append("begun"))
    another.compiled.settle()
    assert ended == ["stopped"]


def test_another_version_of_dbt_is_recorded_anew_beside_the_earlier_recording(
    made: Twins, side: Side, monkeypatch: Any
) -> None:
    candidate = made.add("upgraded")
    newer = another_worker(side)
    with monkeypatch.context() as upgraded:
        upgraded.setattr(compilation, "versions", lambda: {"dbt-core": "1.99.0"})
        first = newer.run(candidate)
        assert first.deoptimised is not None
        assert (first.engine, first.deoptimised.reason, first.failure) == ("executable", "not_compiled", None)
        newer.compiled.settle()
        second = newer.run(candidate)
        assert (second.engine, second.deoptimised, second.failure) == ("replay", None, None)
    # The worker with the earlier version has its own.
    outcome = side.run(candidate)
    assert (outcome.engine, outcome.deoptimised, outcome.failure) == ("replay", None, None)
