"""Whether a process can do its work now: each service that it needs is asked, and named if it does not answer."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from kiket_worker.artifacts.store import Store
from kiket_worker.errors import KiketError
from kiket_worker.ledger.database import Database, translated
from kiket_worker.monitoring.question import Question

# A key that need not exist: to be told so is an answer.
_ANY_KEY = "kiket-worker-readiness"


def missing(services: Mapping[str, Question[Any]]) -> dict[str, str]:
    """Each service that cannot be used now, and why, in one line. They are asked side by side."""
    for question in services.values():
        question.begin()
    reasons = {name: _reason(question) for name, question in services.items()}
    return {name: reason for name, reason in reasons.items() if reason}


def asks_postgres(database: Database, *, timeout_seconds: float) -> Callable[[], None]:
    """Whether Postgres answers, and has the ledger."""

    def ask() -> None:
        connection = database.connect(timeout_seconds=timeout_seconds)
        try:
            with translated():
                connection.execute("select from kiket_analytics.ticker")
        finally:
            connection.close()

    return ask


def asks_store(store: Store) -> Callable[[], None]:
    """Whether the artifact store answers."""

    def ask() -> None:
        with suppress(FileNotFoundError):
            store.get(_ANY_KEY)

    return ask


def _reason(question: Question[Any]) -> str:
    try:
        question.answer()
    except KiketError as fault:
        return str(fault).strip().partition("\n")[0] or fault.kind
    return ""
