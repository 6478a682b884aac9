"""Waking workers for runs that were asked for, without keeping whoever asks waiting for RabbitMQ."""

import threading
from collections.abc import Callable, Sequence
from typing import Self

from kiket_worker import events
from kiket_worker.errors import KiketError, place_of


class Waker:
    """A thread that publishes what waits, for all organisations that have come together meanwhile.

    What it cannot publish is in the ledger all the same, and the ticker publishes it later.
    """

    def __init__(self, publish: Callable[[Sequence[int]], None]) -> None:
        """`publish` publishes the runs that wait for organisations. Raises `KiketError`."""
        self._publish = publish
        self._wanted: set[int] = set()
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join(5)

    def wake(self, organization_id: int) -> None:
        """Have the run of an organisation published, and do not wait."""
        with self._changed:
            self._wanted.add(organization_id)
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._ended)
                if not self._wanted:
                    return
                together, self._wanted = sorted(self._wanted), set()
            try:
                self._publish(together)
            except KiketError as fault:
                events.CONSOLE_WAKING_FAILED.log(error_kind=fault.kind, error=str(fault))
            except Exception as fault:  # The thread goes on: the next request is another's.
                events.CONSOLE_WAKING_FAILED.log(error_kind="internal", error=place_of(fault))
