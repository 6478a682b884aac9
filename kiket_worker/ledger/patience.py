"""Waiting for locks that others would queue behind.

Whoever waits for a table's exclusive lock holds up everybody who comes later, readers too, however short its own work
is. So it waits for a moment only, lets those behind it go on, and tries again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import psycopg

_T = TypeVar("_T")

# What anybody else may be held up at a time.
LOCK_TIMEOUT_SECONDS = 2


@dataclass(frozen=True)
class Patience:
    """How long to go on trying, and how long others have the table in between."""

    seconds: float = 600
    pause_seconds: float = 5
    sleep: Callable[[float], object] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def wait_for_locks(self, attempt: Callable[[], _T]) -> _T:
        """Try until it does not end for want of a lock. `attempt` has set `lock_timeout`, and leaves nothing half done.

        Raises `psycopg.errors.LockNotAvailable` after that time, and whatever else `attempt` raises.
        """
        until = self.clock() + self.seconds
        while True:
            try:
                return attempt()
            except psycopg.errors.LockNotAvailable:
                if self.clock() + self.pause_seconds > until:
                    raise
            self.sleep(self.pause_seconds)
