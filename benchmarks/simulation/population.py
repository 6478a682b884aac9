"""Organisations to simulate: how many of each plan, and when each was refreshed last."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from kiket_worker.ledger.organizations import Plan
from kiket_worker.schedule.cadence import Cadence

# The mix that is planned with, in shares of all organisations: many small ones, few large ones.
MIX: Mapping[Plan, float] = {Plan.STARTER: 0.50, Plan.TEAM: 0.30, Plan.BUSINESS: 0.15, Plan.ENTERPRISE: 0.05}


@dataclass(frozen=True)
class Organization:
    """One organisation, and the moment at which it was refreshed last."""

    number: int
    plan: Plan
    last_run_at: datetime

    def cadence(self, last_run_at: datetime) -> Cadence:
        """The product's rule for it."""
        return Cadence(self.plan, enabled=True, last_run_at=last_run_at)


def counts(organizations: int, mix: Mapping[Plan, float] = MIX) -> dict[Plan, int]:
    """How many organisations of each plan there are; what rounding leaves over is the first plan's."""
    found = {plan: int(organizations * share) for plan, share in mix.items()}
    found[next(iter(mix))] += organizations - sum(found.values())
    return found


def population(of_plans: Mapping[Plan, int], *, now: datetime, outage: timedelta, random: Random) -> list[Organization]:
    """Organisations that were all on time until an outage began, which ends now; none where it has no length.

    On time means that the last run is less than an interval before the outage, anywhere in it with equal chance.
    """
    found: list[Organization] = []
    for plan, count in of_plans.items():
        interval = Cadence(plan, enabled=True).interval
        found += (
            Organization(number, plan, now - outage - interval * random.random())
            for number in range(len(found) + 1, len(found) + 1 + count)
        )
    return found
