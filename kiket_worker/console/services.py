"""What the console works with: opened once a process, used by every request."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property

from kiket_worker.artifacts.store import Store
from kiket_worker.console.glance import Glance
from kiket_worker.console.limits import FailureLimit
from kiket_worker.definitions.dashboards.preview import Previews
from kiket_worker.definitions.dashboards.published import PublishedOverlays
from kiket_worker.ledger import overview
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.overview import Overview


@dataclass(frozen=True)
class Services:
    """The parts. `wake` has the run that waits for an organisation published, and neither waits nor raises.

    `depths` gives the messages in each queue, and raises `ServiceUnreachable`. `prices` are cents for a unit of a
    metric. At most `streams` clients watch runs at a time. `previews` draws dashboards; None where no
    organisation has a read-only role.
    """

    database: Database
    store: Store
    wake: Callable[[int], None]
    depths: Callable[[], Mapping[str, int]]
    prices: Mapping[str, Decimal]
    streams: int
    failures: FailureLimit = field(default_factory=FailureLimit)
    previews: Previews | None = None

    @cached_property
    def overview(self) -> Glance[Overview]:
        """The installation at a glance, as it was ten seconds ago or, if nobody has looked, a minute at most.

        Raises `KiketError` where the ledger does not answer.
        """
        return Glance(lambda: overview.look(self.database, self.prices, now=datetime.now(UTC)))

    @cached_property
    def published(self) -> PublishedOverlays:
        """What organisations have published, with a memory that all requests share."""
        return PublishedOverlays(self.store)
