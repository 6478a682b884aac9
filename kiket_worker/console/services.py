"""What the console works with: opened once a process, used by every request."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from kiket_worker.artifacts.store import Store
from kiket_worker.console.limits import FailureLimit
from kiket_worker.ledger.database import Database


@dataclass(frozen=True)
class Services:
    """The parts. `wake` has the run that waits for an organisation published, and neither waits nor raises.

    `depths` gives the messages in each queue, and raises `ServiceUnreachable`. `prices` are cents for a unit of a
    metric. At most `streams` clients watch runs at a time.
    """

    database: Database
    store: Store
    wake: Callable[[int], None]
    depths: Callable[[], Mapping[str, int]]
    prices: Mapping[str, Decimal]
    streams: int
    failures: FailureLimit = field(default_factory=FailureLimit)
