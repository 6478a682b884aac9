"""A question to a service that may hang: asked by one thread at a time, answered from memory for a while."""

import threading
import time
from collections.abc import Callable
from typing import Generic, NoReturn, TypeVar

from kiket_worker.errors import KiketError, ServiceUnreachable

_T = TypeVar("_T")

KEPT_SECONDS = 5.0
PATIENCE_SECONDS = 2.0


class Question(Generic[_T]):
    """Whoever asks waits for `patience_seconds` at most, and the service is asked every `kept_seconds` at most.

    While the service hangs, the thread that asks it goes on by itself, and no second one is begun.
    """

    def __init__(
        self,
        ask: Callable[[], _T],
        *,
        kept_seconds: float = KEPT_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ask` raises `KiketError` where there is no answer."""
        self._ask = ask
        self._kept_seconds = kept_seconds
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._asked_at = 0.0
        self._answered: threading.Event | None = None
        self._given: Callable[[], _T] = _nothing

    def begin(self) -> None:
        """Have the service asked, if what it last said is too old, and do not wait."""
        with self._lock:
            is_fresh = self._clock() - self._asked_at < self._kept_seconds
            if self._answered is not None and (is_fresh or not self._answered.is_set()):
                return
            self._asked_at = self._clock()
            self._answered = threading.Event()
            threading.Thread(target=self._find_out, args=(self._answered,), daemon=True).start()

    def answer(self) -> _T:
        """What the service says, or has said a moment ago. Raises what `ask` raised, and `ServiceUnreachable`."""
        self.begin()
        assert self._answered is not None
        if not self._answered.wait(max(0.0, self._asked_at + self._patience_seconds - self._clock())):
            raise ServiceUnreachable(f"no answer within {self._patience_seconds:g} seconds")
        return self._given()

    def _find_out(self, answered: threading.Event) -> None:
        try:
            value = self._ask()
        except KiketError as fault:
            self._given = _raising(fault)
        except Exception as fault:  # Whoever asks has to be told something, and its words may hold anything.
            self._given = _raising(KiketError(f"it cannot be asked: {type(fault).__name__}"))
        else:
            self._given = lambda: value
        answered.set()


def _raising(fault: KiketError) -> Callable[[], NoReturn]:
    def raise_it() -> NoReturn:
        raise fault.with_traceback(None)  # Raised again and again, it would grow for ever.

    return raise_it


def _nothing() -> NoReturn:
    raise AssertionError("nothing was asked yet")
