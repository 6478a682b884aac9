"""What takes long to look at, looked at once for everybody, and shown as it was a moment ago."""

import threading
import time
from collections.abc import Callable
from typing import Generic, Self, TypeVar

from kiket_worker import events
from kiket_worker.errors import KiketError, place_of

_T = TypeVar("_T")

_SHARE = 20


class Glance(Generic[_T]):
    """Gives what was seen last. Where that is older than `fresh_seconds`, a thread looks again meanwhile.

    A look that takes long stays fresh for twenty times as long as it took: looking is a twentieth of the time at most.
    Whoever comes first, or after `stale_seconds` in which nobody came or looking failed, waits for a look. Used as a
    context manager, it looks at once and twice in that time, whoever comes, so that only a failure lets anybody wait.
    """

    def __init__(
        self,
        look: Callable[[], _T],
        *,
        fresh_seconds: float = 10.0,
        stale_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`look` raises `KiketError` where there is nothing to be seen."""
        self._look = look
        self._fresh_seconds = fresh_seconds
        self._stale_seconds = stale_seconds
        self._clock = clock
        self._looking = threading.Lock()
        self._seen: tuple[float, _T] | None = None
        self._took_seconds = 0.0
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Self:
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._keeper.join(5)

    def __call__(self) -> _T:
        """See the class. Raises what `look` raises, where there is nothing from before."""
        fresh_seconds, stale_seconds = self._ages()
        seen = self._seen_within(stale_seconds)
        if seen is None:
            with self._looking:  # Who comes meanwhile waits for the same look.
                seen = self._seen_within(stale_seconds)
                if seen is None:
                    return self._look_now()
        if self._seen_within(fresh_seconds) is None and self._looking.acquire(blocking=False):
            threading.Thread(target=self._look_again, daemon=True).start()
        return seen[1]

    def _keep(self) -> None:
        while not self._ended.is_set():
            if self._seen_within(self._ages()[0]) is None and self._looking.acquire(blocking=False):
                self._look_again()
            self._ended.wait(self._ages()[1] / 2)

    def _ages(self) -> tuple[float, float]:
        fresh_seconds = max(self._fresh_seconds, _SHARE * self._took_seconds)
        return fresh_seconds, max(self._stale_seconds, 2 * fresh_seconds)

    def _seen_within(self, seconds: float) -> tuple[float, _T] | None:
        seen = self._seen
        return seen if seen is not None and self._clock() - seen[0] < seconds else None

    def _look_again(self) -> None:
        try:
            self._look_now()
        except KiketError as fault:
            events.CONSOLE_FAILED.log(error_kind=fault.kind, error=" ".join(str(fault).split()))
        except Exception as fault:  # Whoever keeps looking goes on.
            events.CONSOLE_FAILED.log(error_kind="internal", error=place_of(fault))
        finally:
            self._looking.release()

    def _look_now(self) -> _T:
        began, found = self._clock(), self._look()
        self._took_seconds = self._clock() - began
        self._seen = (began, found)
        return found
