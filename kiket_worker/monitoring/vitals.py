"""Whether a process lives: its threads and its loop, and nothing that it depends on.

An orchestrator kills what does not live, and to kill every worker because Postgres is away would make it worse.
"""

import time
from collections.abc import Callable

# A tick may wait for Postgres and RabbitMQ for as long as their time-outs take; beyond this it does not come back.
_STILL_SECONDS = 300.0


class Pulse:
    """A loop's sign of life. It has stopped when it did not beat for `rest_seconds` and five minutes more."""

    def __init__(self, *, rest_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_seconds = rest_seconds + _STILL_SECONDS
        self._clock = clock
        self._beaten_at = clock()

    def beat(self) -> None:
        """Say that the loop goes on."""
        self._beaten_at = self._clock()

    def goes_on(self) -> bool:
        """Whether it has beaten lately."""
        return self._clock() - self._beaten_at <= self._limit_seconds


class Vitals:
    """The parts of a process that have to live for it to be of use."""

    def __init__(self) -> None:
        self._parts: dict[str, Callable[[], bool]] = {}

    def watch(self, part: str, lives: Callable[[], bool]) -> None:
        """Count a part among those that have to live."""
        self._parts[part] = lives

    def dead(self) -> list[str]:
        """The parts that do not live any more."""
        return [part for part, lives in list(self._parts.items()) if not lives()]
