"""Telling a build to end: from another thread, at any moment, once."""

from kiket_worker.dbt.engine import Cancellation
from kiket_worker.errors import LeaseLost, RunCancelled


def test_everything_that_goes_on_is_stopped_at_once() -> None:
    stops: list[str] = []
    cancellation = Cancellation()
    with (
        cancellation.reaching(lambda: stops.append("one"), lambda _: None),
        cancellation.reaching(lambda: stops.append("other"), lambda _: None),
    ):
        assert stops == []
        cancellation.cancel(RunCancelled("x"))
        assert stops == ["one", "other"]


def test_everything_that_goes_on_is_told_how_long_it_may() -> None:
    told: list[tuple[str, float]] = []
    cancellation = Cancellation()
    cancellation.allow(1.0)
    with cancellation.reaching(lambda: None, lambda until: told.append(("one", until))):
        with cancellation.reaching(lambda: None, lambda until: told.append(("other", until))):
            cancellation.allow(2.0)
        cancellation.allow(3.0)
    assert told == [("one", 1.0), ("other", 1.0), ("one", 2.0), ("other", 2.0), ("one", 3.0)]


def test_what_begins_after_the_cancellation_is_stopped_as_it_begins() -> None:
    stops: list[str] = []
    cancellation = Cancellation()
    cancellation.cancel(RunCancelled("x"))
    with cancellation.reaching(lambda: stops.append("stopped"), lambda _: None):
        assert stops == ["stopped"]


def test_what_has_finished_is_not_stopped_any_more() -> None:
    stops: list[str] = []
    cancellation = Cancellation()
    with cancellation.reaching(lambda: stops.append("other"), lambda _: None):
        with cancellation.reaching(lambda: stops.append("stopped"), lambda _: None):
            pass
        cancellation.cancel(RunCancelled("x"))
    assert stops == ["other"]


def test_the_first_reason_counts() -> None:
    cancellation = Cancellation()
    assert cancellation.reason is None
    first = LeaseLost("first")
    cancellation.cancel(first)
    cancellation.cancel(RunCancelled("second"))
    assert cancellation.reason is first
