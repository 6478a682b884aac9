"""Who may run beside whom in one worker process."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class Turns:
    """Lets refreshes run side by side, and one that is suspected of killing workers run alone.

    When a worker dies, each of its runs has crashed once, though one of them did it. Run alone, the next crash is that
    run's own, and the others are never counted as often as to be put in quarantine.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._together = 0
        self._waiting_alone = 0
        self._is_alone = False

    @contextmanager
    def taken(self, *, alone: bool) -> Iterator[None]:
        """Wait for a turn and hold it. Who wants to be alone goes before those who begin after it."""
        with self._changed:
            if alone:
                self._waiting_alone += 1
                self._changed.wait_for(lambda: not self._is_alone and self._together == 0)
                self._waiting_alone -= 1
                self._is_alone = True
            else:
                self._changed.wait_for(lambda: not self._is_alone and self._waiting_alone == 0)
                self._together += 1
        try:
            yield
        finally:
            with self._changed:
                if alone:
                    self._is_alone = False
                else:
                    self._together -= 1
                self._changed.notify_all()
