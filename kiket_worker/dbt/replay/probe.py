"""A probe: a tenant that is made up so that dbt can be recorded, with names that appear nowhere by themselves."""

import secrets
from dataclasses import dataclass

_LETTERS = "bcdfghjkmnpqrstvwxz23456789"
# Every probe's slug begins so, by which leftovers of a compilation that was killed are found.
PREFIX = "probe-"


@dataclass(frozen=True)
class Probe:
    """The two probes of a pair differ in length, in parity, and in their clocks, so that what depends on these shows.

    A slug has hyphens and its schema underscores, so that one is never taken for the other.
    """

    organization_id: int
    slug: str
    clock_shift_seconds: int

    @property
    def schema(self) -> str:
        """The schema of the probe, which is also its role."""
        return "analytics_org_" + self.slug.replace("-", "_")


def pair() -> tuple[Probe, Probe]:
    """Two new probes. Their ids are of Postgres' type integer, as a literal of a small id is."""
    first = Probe(200_000_000 + 2 * secrets.randbelow(350_000_000), f"{PREFIX}q{_random(13)}", 0)
    # More than a year and about half a day away: another date, another half of the day, another weekday.
    second = Probe(
        1_000_000_001 + 2 * secrets.randbelow(500_000_000), f"{PREFIX}z{_random(9)}-{_random(10)}", 34_605_296
    )
    return first, second


def values_of(organization_id: int, slug: str, schema: str) -> dict[str, str]:
    """What fills the holes of a tenant."""
    reader = schema.replace("analytics_org_", "analytics_ro_", 1)
    return {"schema": schema, "reader": reader, "slug": slug, "id": str(organization_id)}


def _random(length: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(length))
