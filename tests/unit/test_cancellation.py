"""Telling a build to end: from another thread, at any moment, once."""

from kiket_worker.dbt.engine import Cancellation
from kiket_worker.errors import LeaseLost, RunCancelled


def test_what_is_running_is_stopped_at_once() -> None:
    stops: list[str] = []
    cancellation = Cancellation()
    cancellation.while_running(lambda: stops.append("stopped"), lambda _: None)
    assert stops == []
    cancellation.cancel(RunCancelled("x"))
    assert stops == ["stopped"]


def test_what_begins_after_the_cancellation_is_stopped_as_it_begins() -> None:
    stops: list[str] = []
    cancellation = Cancellation()
    cancellation.cancel(RunCancelled("x"))
    cancellation.while_running(lambda: stops.append("stopped"), lambda _: None)
    assert stops == ["stopped"]


def test_what_has_finished_is_not_stopped_any_more() -> None:
    stops: list[str] = []
    cancellation = Cancellation()
    cancellation.while_running(lambda: stops.append("stopped"), lambda _: None)
    cancellation.finished()
    cancellation.cancel(RunCancelled("x"))
    assert stops == []


def test_the_first_reason_counts() -> None:
    cancellation = Cancellation()
    assert cancellation.reason is None
    first = LeaseLost("first")
    cancellation.cancel(first)
    cancellation.cancel(RunCancelled("second"))
    assert cancellation.reason is first
