"""When an organisation is due, and who goes first: the rules, without clock or database.

`ledger/sql/due.sql` says the same set-based, and `runs_to_publish.sql` the order; property tests hold them together.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from kiket_worker.ledger.organizations import PLAN_INTERVAL_HOURS, Plan


@dataclass(frozen=True)
class Cadence:
    """What decides when one organisation is refreshed."""

    plan: Plan
    enabled: bool
    refresh_interval_hours: int | None = None
    last_run_at: datetime | None = None

    @property
    def interval(self) -> timedelta:
        """The organisation's own setting, or else its plan's default."""
        return timedelta(hours=self.refresh_interval_hours or PLAN_INTERVAL_HOURS[self.plan])

    def is_due(self, now: datetime) -> bool:
        """Whether a refresh should be queued at `now`, if none is active."""
        if not self.enabled:
            return False
        return self.last_run_at is None or self.last_run_at + self.interval <= now

    def urgency(self, now: datetime) -> float:
        """How long overdue, in intervals: what is most overdue for its plan goes first. Never run is infinitely so."""
        if self.last_run_at is None:
            return float("inf")
        return (now - self.last_run_at - self.interval) / self.interval


def publishing_order(
    urgency: float | None, queued_at: datetime, run_id: object
) -> tuple[bool, float, datetime, object]:
    """By what waiting runs are sorted before they are published: requests, which have no urgency, go first."""
    return (urgency is not None, -(urgency or 0.0), queued_at, run_id)
