"""Who may run beside whom: a suspect runs alone, and nobody waits for ever."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from kiket_worker.refresh.turns import Turns


def test_ordinary_refreshes_run_side_by_side() -> None:
    turns, meeting = Turns(), threading.Barrier(2)

    def run() -> None:
        with turns.taken(alone=False):
            meeting.wait(10)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(run) for _ in range(2)]:
            done.result(20)


def test_a_suspect_runs_alone_and_before_those_that_come_after_it() -> None:
    turns, first_runs, first_may_end = Turns(), threading.Event(), threading.Event()
    order: list[str] = []
    waiting = threading.Semaphore(0)

    def first() -> None:
        with turns.taken(alone=False):
            first_runs.set()
            first_may_end.wait(10)
            order.append("first")

    def later(name: str, *, alone: bool) -> None:
        waiting.release()
        with turns.taken(alone=alone):
            order.append(f"{name} begins")
            order.append(f"{name} ends")

    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(first)]
        first_runs.wait(10)
        jobs.append(pool.submit(later, "suspect", alone=True))
        waiting.acquire()
        while not turns._waiting_alone:
            pass
        jobs.append(pool.submit(later, "third", alone=False))
        waiting.acquire()
        first_may_end.set()
        for job in jobs:
            job.result(20)
    assert order == ["first", "suspect begins", "suspect ends", "third begins", "third ends"]


def test_a_turn_is_given_back_after_a_failure() -> None:
    turns = Turns()
    for alone in (True, False, True):
        with pytest.raises(ZeroDivisionError), turns.taken(alone=alone):
            1 / 0  # noqa: B018
    with turns.taken(alone=True):
        assert not turns._together
