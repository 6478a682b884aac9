"""Asking a service that may hang: who asks is never kept waiting, and the service is never asked too often."""

import threading
from dataclasses import dataclass, field

import pytest

from kiket_worker.errors import PostgresUnreachable, ServiceUnreachable
from kiket_worker.monitoring.question import Question
from tests.support.dbt_scripts import until


@dataclass
class Service:
    """Answers with how often it was asked, when it is let."""

    asked: int = 0
    fault: Exception | None = None
    lets: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.lets.set()

    def ask(self) -> int:
        self.asked += 1
        self.lets.wait(30)
        if self.fault:
            raise self.fault
        return self.asked


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_answer_is_kept_for_a_while() -> None:
    service, clock = Service(), Clock()
    question = Question(service.ask, kept_seconds=5, patience_seconds=30, clock=clock)
    assert [question.answer(), question.answer()] == [1, 1]
    clock.now += 4.9
    assert question.answer() == 1
    clock.now += 0.2
    assert question.answer() == 2


def test_a_refusal_is_an_answer_as_well() -> None:
    service, clock = Service(fault=PostgresUnreachable("gone")), Clock()
    question = Question(service.ask, kept_seconds=5, patience_seconds=30, clock=clock)
    for _ in range(2):
        with pytest.raises(PostgresUnreachable, match="gone"):
            question.answer()
    assert service.asked == 1
    service.fault = None
    clock.now += 5
    assert question.answer() == 2


def test_what_nobody_foresaw_is_told_without_its_words() -> None:
    question = Question(Service(fault=ValueError("hunter2")).ask, patience_seconds=30)
    with pytest.raises(Exception, match=r"^it cannot be asked: ValueError$"):
        question.answer()


def test_a_service_that_hangs_is_asked_by_one_thread_however_many_want_to_know() -> None:
    service, clock = Service(), Clock()
    service.lets.clear()
    question = Question(service.ask, kept_seconds=5, patience_seconds=0, clock=clock)
    for _ in range(20):
        with pytest.raises(ServiceUnreachable, match="no answer within 0 seconds"):
            question.answer()
        clock.now += 60
    assert service.asked == 1
    service.lets.set()

    def answers() -> bool:
        try:
            return question.answer() > 0
        except ServiceUnreachable:
            return False

    assert until(answers, "it is heard when it answers again")
    assert service.asked >= 1
