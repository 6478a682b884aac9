"""How often a run is tried, and how long it waits in between."""

from collections.abc import Callable
from dataclasses import dataclass

from kiket_worker.errors import KiketError

_LONGEST_SECONDS = 600.0


@dataclass(frozen=True)
class RetryPolicy:
    """Bounds on a run's attempts. `crashes` bounds those that ended without a word, and then comes quarantine."""

    attempts: int
    crashes: int
    base_seconds: float

    def allows_another(self, attempt: int, error: KiketError) -> bool:
        """Whether trying again may help after the attempt of this number."""
        return error.retryable and attempt < self.attempts

    def delay_seconds(self, attempt: int, random: Callable[[], float]) -> float:
        """Exponential backoff with jitter: between half and all of base × 2^(attempt - 1), at most ten minutes.

        `random` gives numbers from 0 to 1. The jitter keeps runs apart that failed together. ("Exponential Backoff
        And Jitter", AWS Architecture Blog, 2015; its "equal jitter".)
        """
        longest = min(_LONGEST_SECONDS, self.base_seconds * 2.0 ** (attempt - 1))
        return longest * (0.5 + 0.5 * random())
