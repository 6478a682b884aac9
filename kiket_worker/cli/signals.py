"""The end of a long-running command: the first signal asks, the second one insists."""

import signal
import threading
from types import FrameType
from typing import Self

_LOOK_SECONDS = 0.5


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

    def wait(self) -> None:
        """Wait for the first signal.

        Python calls handlers in the main thread only, and a signal that the kernel gives to another thread does not
        wake it: so it looks up now and then by itself.
        """
        while not self.asked.wait(_LOOK_SECONDS):
            pass

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        (self.insisted if self.asked.is_set() else self.asked).set()
