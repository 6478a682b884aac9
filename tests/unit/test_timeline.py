"""The chart of a run, from what the ledger has."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from kiket_worker.console.pages.timeline import WIDTH, Bar, timeline_of
from kiket_worker.contract import Reason
from kiket_worker.ledger.runs import Run, RunAttempt, RunId, RunModel, Status

START = datetime(2026, 6, 15, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def run(status: Status, **given: Any) -> Run:
    nothing = dict.fromkeys(Run.__dataclass_fields__)
    known = nothing | {"run_id": RunId(uuid4()), "reason": Reason.MANUAL, "status": status, "queued_at": START}
    return Run(**known | given)


def attempt(number: int, begun: float, ended: float | None, outcome: str | None) -> RunAttempt:
    return RunAttempt(number, "here", at(begun), None if ended is None else at(ended), outcome, None, None)


def shown(bars: tuple[Bar, ...]) -> list[tuple[str, str, str, float, float]]:
    return [(bar.kind, bar.name, bar.status, bar.offset_seconds, bar.duration_seconds) for bar in bars]


def test_a_run_that_succeeded_after_a_crash_has_its_attempts_the_last_ones_steps_and_its_models() -> None:
    ended = run(Status.SUCCEEDED, started_at=at(20), built_at=at(35), archived_at=at(38), finished_at=at(40))
    tries = [attempt(1, 5, 15, "crashed"), attempt(2, 20, 40, "succeeded")]
    models = [
        RunModel("model.x.late", "success", 5, 1, started_at=at(28)),
        RunModel("model.x.early", "success", 2.5, 1, started_at=at(22)),
        RunModel("model.x.never", "skipped", None, None),
    ]
    found = timeline_of(ended, tries, models, at(1000))
    assert (found.start, found.seconds) == (START, 40)
    assert shown(found.bars) == [
        ("waiting", "in the queue", "waited", 0, 5),
        ("attempt", "attempt 1", "crashed", 5, 10),
        ("attempt", "attempt 2", "succeeded", 20, 20),
        ("step", "build", "success", 20, 15),
        ("step", "archive", "success", 35, 3),
        ("step", "record", "success", 38, 2),
        ("model", "early", "success", 22, 2.5),
        ("model", "late", "success", 28, 5),
    ]
    assert (found.bars[1].x, found.bars[1].width) == (125, 250)
    assert found.ticks == ((0, 0), (10, 250), (20, 500), (30, 750), (40, 1000))
    assert not any(bar.goes_on for bar in found.bars)


def test_what_goes_on_lasts_until_now() -> None:
    going = run(Status.RUNNING, started_at=at(2))
    models = [
        RunModel("model.x.a", "running", None, None, started_at=at(4)),
        RunModel("model.x.b", "error", None, None, started_at=at(3)),
    ]
    found = timeline_of(going, [attempt(1, 2, None, None)], models, at(10))
    assert shown(found.bars)[1:] == [
        ("attempt", "attempt 1", "running", 2, 8),
        ("step", "build", "running", 2, 8),
        ("model", "b", "error", 3, 0),
        ("model", "a", "running", 4, 6),
    ]
    assert [bar.goes_on for bar in found.bars] == [False, True, True, False, True]


def test_a_failed_build_is_the_last_step_also_where_an_earlier_attempt_had_built() -> None:
    failed = run(Status.FAILED, started_at=at(20), built_at=at(10), finished_at=at(30))
    found = timeline_of(failed, [attempt(1, 1, 12, "retried"), attempt(2, 20, 30, "failed")], [], at(99))
    assert shown(found.bars)[-1:] == [("step", "build", "failed", 20, 10)]


@pytest.mark.parametrize("status", [Status.QUEUED, Status.CANCELLED, Status.SKIPPED])
def test_who_never_began_only_waits(status: Status) -> None:
    waiting = replace(run(status), finished_at=at(7) if status.has_ended else None)
    (bar,) = timeline_of(waiting, [], [], at(9)).bars
    assert (bar.status, bar.duration_seconds, bar.x, bar.width) == (
        ("waited", 7, 0, WIDTH) if status.has_ended else ("queued", 9, 0, WIDTH)
    )


def test_nothing_is_drawn_outside_or_too_thin_to_be_seen_whatever_clocks_say() -> None:
    odd = run(Status.SUCCEEDED, started_at=at(5), built_at=at(9), archived_at=at(8), finished_at=at(3600))
    models = [
        RunModel("model.x.a", "success", 0.001, 1, started_at=at(-50)),
        RunModel("model.x.b", "success", 1e-9, 1, started_at=at(3600)),
    ]
    found = timeline_of(odd, [attempt(1, 5, 2, "succeeded")], models, START)
    assert found.start == at(-50)
    for bar in found.bars:
        assert bar.x >= 0
        assert bar.x + bar.width <= WIDTH + 0.1
        assert bar.width >= 3
    at_once = run(Status.CANCELLED, finished_at=START)
    assert timeline_of(at_once, [], [], START).seconds > 0
