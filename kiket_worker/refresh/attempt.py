"""One attempt at a run: what its steps share."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kiket_worker.artifacts.archive import ArchivedSet
from kiket_worker.dbt.bundle import Bundle
from kiket_worker.dbt.engine import Cancellation, Outcome
from kiket_worker.events import Event
from kiket_worker.ledger.claims import Claim
from kiket_worker.refresh.services import Services

if TYPE_CHECKING:
    from kiket_worker.refresh.dropped import Inventory
    from kiket_worker.telemetry.recording import Recording


@dataclass
class Attempt:
    """The claim under which the attempt writes, its folder, and what its steps have brought about so far."""

    services: Services
    claim: Claim
    workdir: Path
    cancellation: Cancellation
    recording: "Recording"
    bundle: Bundle | None = None
    outcome: Outcome | None = None
    inventory: "Inventory | None" = None
    archived: ArchivedSet | None = None
    _began: float = field(default_factory=time.monotonic)
    _step_began: float = field(default_factory=time.monotonic)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure and trace a step until the block ends."""
        self._step_began = time.monotonic()
        with self.recording.step(name):
            yield

    def step_seconds(self) -> float:
        """Seconds since the step began, to the millisecond."""
        return round(time.monotonic() - self._step_began, 3)

    def log(self, event: Event, **fields: Any) -> None:
        """Write an event with the names of the run and the attempt."""
        run = self.claim.run
        event.log(
            organization=run.organization_slug,
            run_id=str(run.run_id),
            attempt=run.attempt,
            worker=self.services.worker,
            **fields,
        )

    def elapsed_seconds(self) -> float:
        """Seconds since the attempt began, to the millisecond."""
        return round(time.monotonic() - self._began, 3)
