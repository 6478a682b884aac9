"""The ticker: queues what is due and publishes what waits. It keeps nothing; any number may run side by side."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from kiket_worker import events
from kiket_worker.errors import KiketError
from kiket_worker.ledger import outbox
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.outbox import Waiting

Publish = Callable[[Waiting], None]


@dataclass(frozen=True)
class Tick:
    """What one tick has done. `queued` are the runs of the organisations that were due."""

    queued: tuple[Waiting, ...]
    published: int


def tick(database: Database, publish: Publish, *, now: datetime, republish_after_seconds: float) -> Tick:
    """Queue each organisation that is due at `now`, then publish every run that waits for its message.

    Raises `PostgresUnreachable` and `RabbitmqUnreachable`; what was queued by then is published by a later tick.
    """
    began = time.monotonic()
    queued = outbox.queue_due(database, now)
    for run in queued:
        events.RUN_QUEUED.log(organization=run.organization_slug, run_id=str(run.run_id), reason=run.reason)
    published = outbox.publish_waiting(database, publish, republish_after_seconds=republish_after_seconds)
    duration_seconds = round(time.monotonic() - began, 3)
    events.TICKER_TICKED.log(queued=len(queued), published=published, duration_seconds=duration_seconds)
    return Tick(tuple(queued), published)


def tick_until(
    stopped: threading.Event,
    database: Database,
    publish: Publish,
    sweep: Callable[[], None],
    beat: Callable[[], None] = lambda: None,
    *,
    interval_seconds: float,
    outbox_interval_seconds: float,
    republish_after_seconds: float,
) -> None:
    """Tick and sweep at once and at every interval until `stopped` is set; publish what waits more often than that.

    Retries and the runs of crashed workers wait for their message only. A tick that fails is logged, not raised.
    `beat` is called each time round.
    """
    events.TICKER_STARTED.log(interval_seconds=interval_seconds)
    next_tick_at = time.monotonic()
    while True:
        beat()
        try:
            if time.monotonic() >= next_tick_at:
                next_tick_at = time.monotonic() + interval_seconds
                tick(database, publish, now=datetime.now(UTC), republish_after_seconds=republish_after_seconds)
                sweep()
            else:
                outbox.publish_waiting(database, publish, republish_after_seconds=republish_after_seconds)
        except KiketError as fault:
            events.TICKER_FAILED.log(error_kind=fault.kind, error=str(fault))
        if stopped.wait(min(outbox_interval_seconds, interval_seconds)):
            return
