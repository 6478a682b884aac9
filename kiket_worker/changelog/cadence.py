"""Changelogs evaluated on the ticker's cadence: by one ticker of all, behind its ticks, and never at their cost."""

import threading
import time
from pathlib import Path

from kiket_worker import events
from kiket_worker.changelog.evaluation import evaluate
from kiket_worker.changelog.export import export
from kiket_worker.errors import KiketError, place_of
from kiket_worker.ledger import evaluations
from kiket_worker.ledger.database import Database


class ChangelogCadence:
    """Evaluates all changelogs, and exports them where an output is named, once in an interval of the installation's.

    Whatever fails is an event, and raises nothing; the next interval tries it again.
    """

    def __init__(self, database: Database, *, interval_hours: int, output: Path | None) -> None:
        self._database = database
        self._interval_hours = interval_hours
        self._output = output
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def begin_if_due(self) -> None:
        """Take the turn if it is due, and work in a thread of its own."""
        if self._thread is not None and self._thread.is_alive():
            return
        # Taken in the thread too: whoever ticks waits for nothing.
        self._thread = threading.Thread(target=self.run_if_due, daemon=True, name="changelogs")
        self._thread.start()

    def run_if_due(self) -> None:
        """Take the turn if it is due, and work until it is done."""
        began = time.monotonic()
        try:
            if not evaluations.take_turn(self._database, interval_hours=self._interval_hours):
                return
            evaluated = evaluate(self._database, is_stopped=self._stopped.is_set)
            if self._stopped.is_set():
                return
            if self._output:
                export(self._database, self._output)
        except Exception as fault:  # A thread has nobody to raise to, and a bug here must not end the ticks.
            kind, text = (
                (fault.kind, str(fault)) if isinstance(fault, KiketError) else (KiketError.kind, place_of(fault))
            )
            events.CHANGELOG_FAILED.log(
                error_kind=kind, error=" ".join(text.split()), duration_seconds=round(time.monotonic() - began, 3)
            )
        else:
            events.CHANGELOG_EVALUATED.log(releases=evaluated, duration_seconds=round(time.monotonic() - began, 3))

    def stop(self) -> None:
        """End what was begun, after the release that is being scored; what is stored stays."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
