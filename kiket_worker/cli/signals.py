"""The end of a long-running command: the first signal asks, the second one insists."""

import signal
import threading
from types import FrameType
from typing import Self


class Signals:
    """SIGTERM and SIGINT while a command runs, as two events. Used as a context manager, in the main thread."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.insisted = threading.Event()

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        (self.insisted if self.asked.is_set() else self.asked).set()
