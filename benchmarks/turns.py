"""Two ways of doing the same, measured in turns, so that whatever else the machine does meets both."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.figures import Figure, Target


@dataclass(frozen=True)
class Turns:
    """What each turn has cost on the measured side and on the one that it is compared with, in seconds."""

    measured: Sequence[float]
    reference: Sequence[float]

    @property
    def ratio(self) -> float:
        """By the medians of both sides."""
        return median(self.measured) / median(self.reference)

    def figure(self, name: str, how: str, target: Target | None = None) -> Figure:
        """The ratio as a figure, whose `how` begins with the medians behind it."""
        medians = f"{_shown(median(self.measured))} against {_shown(median(self.reference))}"
        return Figure(name, self.ratio, "ratio", f"{medians}, medians of {len(self.measured)} in turns; {how}", target)


def in_turns(count: int, measured: Callable[[int], object], reference: Callable[[int], object]) -> Turns:
    """Do both `count` times, each going first every other time, and give the times on the clock.

    They are called with the number of the turn, from 0.
    """
    seconds: dict[Callable[[int], object], list[float]] = {measured: [], reference: []}
    for turn in range(count):
        for side in (measured, reference) if turn % 2 else (reference, measured):
            began = time.perf_counter()
            side(turn)
            seconds[side].append(time.perf_counter() - began)
    return Turns(seconds[measured], seconds[reference])


def _shown(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
