"""What a benchmark gives: figures with their units, targets and methods, and the machine that they were measured on."""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Literal

import psutil


@dataclass(frozen=True)
class Target:
    """What a figure has to reach, in the figure's own unit."""

    comparison: Literal["<=", ">="]
    value: float

    def holds(self, value: float) -> bool:
        """Whether `value` reaches it."""
        return value <= self.value if self.comparison == "<=" else value >= self.value

    def __str__(self) -> str:
        return f"{self.comparison} {self.value:.4g}"


@dataclass(frozen=True)
class Figure:
    """One measured value. `how` says what was measured, how often, and what was done with the measurements."""

    name: str
    value: float
    unit: str
    how: str
    target: Target | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the target is reached; None where there is no target."""
        return self.target.holds(self.value) if self.target else None

    def document(self) -> dict[str, Any]:
        """The figure as JSON has it: the target as text (`<= 5`), `holds` null where there is none."""
        return {
            "name": self.name,
            "value": float(f"{self.value:.4g}"),
            "unit": self.unit,
            "target": str(self.target) if self.target else None,
            "holds": self.holds,
            "how": self.how,
        }


@dataclass(frozen=True)
class Machine:
    """Where it was measured. `cores` are those that this process may use, `memory_gib` is all there is."""

    cores: int
    memory_gib: float
    python: str
    postgres: str
    rabbitmq: str


@dataclass(frozen=True)
class Benchmark:
    """What one benchmark has measured."""

    benchmark: str
    machine: Machine
    figures: Sequence[Figure]

    def document(self) -> dict[str, Any]:
        """The benchmark as JSON has it."""
        return {
            "benchmark": self.benchmark,
            "machine": asdict(self.machine),
            "figures": [figure.document() for figure in self.figures],
        }


def machine(*, postgres: str, rabbitmq: str) -> Machine:
    """The machine that this runs on, with the versions of the services that the benchmark used."""
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        python=platform.python_version(),
        postgres=postgres,
        rabbitmq=rabbitmq,
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of `values` that at least `percent` of them do not exceed (nearest rank, nothing interpolated)."""
    return sorted(values)[max(0, ceil(len(values) * percent / 100) - 1)]
