"""The sample platform: organisations, people, projects and releases as a real tracker has them. Issues: `issues.py`.

Everything is pure and lazy: the same spec, seed and `now` give the same rows, one organisation's rows do not depend on
the others, and memory stays flat however many rows are asked for. Names are of many scripts, with quotes and emoji.
Moments inside are whole seconds since 1970 in UTC, because millions of datetimes are slow to calculate with.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isqrt
from random import Random
from typing import NamedTuple, Self

from kiket_worker.ledger.organizations import Plan

IDS_PER_ORGANIZATION = 10_000_000
HISTORY_DAYS = 548  # About eighteen months: how far back the oldest issue was created.
DAY = 24 * 3600
OPENS, CLOSES = 7 * 3600, 20 * 3600  # The working day, in seconds after midnight UTC.


@dataclass(frozen=True)
class OrganizationSpec:
    """What to generate for one organisation: who it is, and how many rows of each kind it has."""

    id: int
    slug: str
    name: str
    plan: Plan
    projects: int
    users: int
    issues: int

    def __post_init__(self) -> None:
        if min(self.projects, self.users, self.issues) < 0 or self.issues > IDS_PER_ORGANIZATION:
            raise ValueError(f"{self.slug}: counts go from 0, and issues to {IDS_PER_ORGANIZATION:,}")
        if self.issues and not self.projects:
            raise ValueError(f"{self.slug}: issues need at least one project")

    def row_id(self, number: int) -> int:
        """The id of this organisation's n-th user, project, issue or release, counted from 1: no other's id."""
        return self.id * IDS_PER_ORGANIZATION + number


def tiny() -> tuple[OrganizationSpec, ...]:
    """For tests: loaded in a blink, with every kind of text, and one organisation that has no issues at all."""
    return (
        OrganizationSpec(1, "acme", "Acme, Inc.", Plan.BUSINESS, projects=2, users=5, issues=64),
        OrganizationSpec(2, "blue-harbor", "Blue Harbor Logistics", Plan.TEAM, projects=2, users=4, issues=40),
        OrganizationSpec(3, "north_star", "North★Star Енергія", Plan.ENTERPRISE, projects=3, users=6, issues=72),
        OrganizationSpec(4, "quiet-orchard", "Quiet Orchard 🍎", Plan.STARTER, projects=1, users=2, issues=0),
    )


def demo() -> tuple[OrganizationSpec, ...]:
    """For people: nine organisations of different sizes on the four plans, 58,000 issues, one without any."""
    return (
        OrganizationSpec(1, "acme", "Acme, Inc.", Plan.BUSINESS, projects=12, users=60, issues=9_000),
        OrganizationSpec(2, "blue-harbor", "Blue Harbor Logistics", Plan.TEAM, projects=6, users=25, issues=4_200),
        OrganizationSpec(3, "north_star", "North★Star Енергія", Plan.ENTERPRISE, projects=24, users=180, issues=21_000),
        OrganizationSpec(4, "quiet-orchard", "Quiet Orchard 🍎", Plan.STARTER, projects=1, users=3, issues=0),
        OrganizationSpec(5, "cafe-nandu", "Café Ñandú", Plan.STARTER, projects=3, users=8, issues=900),
        OrganizationSpec(6, "umi-no-ie", "海の家", Plan.TEAM, projects=5, users=18, issues=2_600),
        OrganizationSpec(7, "zubr_i_syn", "Żubr & Syn", Plan.STARTER, projects=2, users=5, issues=350),
        OrganizationSpec(8, "oneills-garage", "O'Neill's “Garage”", Plan.BUSINESS, projects=10, users=45, issues=7_150),
        OrganizationSpec(9, "desert-rose", "وردة الصحراء", Plan.ENTERPRISE, projects=16, users=120, issues=12_800),
    )


def large(organizations: int, issues: int) -> tuple[OrganizationSpec, ...]:
    """For benchmarks: `org-000001` and on, the first one the largest, with exactly `issues` issues in all."""
    weights = [rank**-0.8 for rank in range(1, organizations + 1)]
    total = sum(weights)
    specs: list[OrganizationSpec] = []
    reached, given = 0.0, 0
    for number, weight in enumerate(weights, start=1):
        reached += weight
        # Rounding the running total instead of each share makes the shares add up.
        share = (issues if number == organizations else round(issues * reached / total)) - given
        given += share
        specs.append(
            OrganizationSpec(
                id=number,
                slug=f"org-{number:06d}",
                name=f"Organisation № {number:,}",
                plan=_plan_at(number / organizations),
                projects=1 + isqrt(share) // 10,
                users=2 + isqrt(share) // 3,
                issues=share,
            )
        )
    return tuple(specs)


def _plan_at(rank: float) -> Plan:
    """The plan of an organisation by size, 0 the largest and 1 the smallest: the large ones pay for more."""
    if rank <= 0.05:
        return Plan.ENTERPRISE
    if rank <= 0.2:
        return Plan.BUSINESS
    return Plan.TEAM if rank <= 0.5 else Plan.STARTER


class OrganizationRow(NamedTuple):
    """A row of `organizations`. As in all rows here, fields are named as the table's columns."""

    id: int
    slug: str
    name: str
    plan: str
    created_at: datetime


class UserRow(NamedTuple):
    """A row of `users`."""

    id: int
    organization_id: int
    name: str
    email: str
    role: str
    active: bool
    created_at: datetime


class ProjectRow(NamedTuple):
    """A row of `projects`."""

    id: int
    organization_id: int
    key: str
    name: str
    archived: bool
    created_at: datetime


class ReleaseRow(NamedTuple):
    """A row of `releases`."""

    id: int
    organization_id: int
    project_id: int
    version: str
    changelog_draft: str | None
    changelog: str | None
    released_at: datetime | None
    created_at: datetime


def organization_rows(spec: OrganizationSpec, seed: int, now: datetime) -> Iterator[OrganizationRow]:
    """The organisation itself, founded up to half a year before its oldest issue."""
    founded = Growth.of(spec, seed, now).founded
    yield OrganizationRow(spec.id, spec.slug, spec.name, spec.plan.value, to_datetime(founded))


def user_rows(spec: OrganizationSpec, seed: int, now: datetime) -> Iterator[UserRow]:
    """The organisation's people, joining one after the other; the first one owns it."""
    rng = Random(f"{seed}:{spec.slug}:users")
    growth = Growth.of(spec, seed, now)
    domain = spec.slug.replace("_", "-") + ".example"
    for number in range(1, spec.users + 1):
        yield UserRow(
            id=spec.row_id(number),
            organization_id=spec.id,
            name=_person_name(rng),
            email=f"user{number}@{domain}",
            role="owner" if number == 1 else rng.choices(("admin", "member", "guest"), (1, 8, 1))[0],
            active=number == 1 or rng.random() < 0.93,
            created_at=to_datetime(growth.joined_at(number, spec.users)),
        )


def project_rows(spec: OrganizationSpec, seed: int, now: datetime) -> Iterator[ProjectRow]:
    """The organisation's projects, started one after the other."""
    rng = Random(f"{seed}:{spec.slug}:projects")
    growth = Growth.of(spec, seed, now)
    for number in range(1, spec.projects + 1):
        yield ProjectRow(
            id=spec.row_id(number),
            organization_id=spec.id,
            key=f"P{number}",
            name=rng.choice(_PROJECT_NAMES),
            archived=number > 1 and rng.random() < 0.08,
            created_at=to_datetime(growth.joined_at(number, spec.projects)),
        )


def release_rows(spec: OrganizationSpec, seed: int, now: datetime) -> Iterator[ReleaseRow]:
    """A release of each project every month or two, the newest one often not out yet; none where nothing is done."""
    rng = Random(f"{seed}:{spec.slug}:releases")
    growth = Growth.of(spec, seed, now)
    if not spec.issues:
        return
    number = 0
    for project in range(1, spec.projects + 1):
        prepared = at_work(rng, growth.joined_at(project, spec.projects) + 14 * DAY)
        minor = 0
        while prepared <= growth.until:
            number += 1
            version = f"1.{minor}.0"
            released = at_work(rng, prepared + rng.randint(1, 10 * DAY), prepared)
            is_out = released <= growth.until
            draft, changelog = _changelogs(rng, version)
            is_drafted, is_published = rng.random() < 0.92, rng.random() < 0.94
            yield ReleaseRow(
                id=spec.row_id(number),
                organization_id=spec.id,
                project_id=spec.row_id(project),
                version=version,
                changelog_draft=draft if is_drafted else None,
                changelog=changelog if is_out and is_published else None,
                released_at=to_datetime(released) if is_out else None,
                created_at=to_datetime(prepared),
            )
            prepared = at_work(rng, prepared + rng.randint(28 * DAY, 60 * DAY))
            minor += 1


@dataclass(frozen=True)
class Growth:
    """How people and projects join an organisation, evenly, from when it was `founded` `until` now."""

    founded: int
    until: int

    @classmethod
    def of(cls, spec: OrganizationSpec, seed: int, now: datetime) -> Self:
        """The organisation's growth. Raises ValueError for a `now` without time zone: machines differ on it."""
        if now.tzinfo is None:
            raise ValueError("the sample platform's `now` needs a time zone")
        until = int(now.timestamp())
        days_before = Random(f"{seed}:{spec.slug}:founded").uniform(10, 180)
        return cls(founded=until - int((HISTORY_DAYS + days_before) * DAY), until=until)

    def joined_at(self, number: int, count: int) -> int:
        """When the n-th of `count` came, counted from 1: the first at the foundation."""
        # Rounded up (dividing a negative number does), so that `joined` never counts somebody before that second.
        return self.founded - (self.founded - self.until) * (number - 1) // count

    def joined(self, moment: int, count: int) -> int:
        """How many of `count` have come by then: the n-th is counted from `joined_at(n, count)` on."""
        return min(count, 1 + (moment - self.founded) * count // (self.until - self.founded))


def to_datetime(moment: int) -> datetime:
    """Seconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(moment, UTC)


def weekday(moment: int) -> int:
    """The day of the week, 0 for Monday."""
    return (moment // DAY + 3) % 7  # 1970 began on a Thursday.


def at_work(rng: Random, moment: int, earliest: int = 0) -> int:
    """The moment, moved to a near one when people work: seldom on weekends, never at night, not before `earliest`."""
    day = weekday(moment)
    if day >= 5 and rng.random() < 0.9:
        # Saturdays back and Sundays on, so that durations keep their median; by one to three days, so that Mondays
        # and Fridays do not stand out.
        moment += (1 if day == 6 else -1) * (1 + int(rng.random() * 3)) * DAY
    second = moment % DAY
    if not OPENS <= second < CLOSES:
        moment += OPENS - second + int(rng.random() * (CLOSES - OPENS))
    while moment < earliest:
        moment += 3 * DAY if weekday(moment) == 4 else DAY
    return moment


_GIVEN_NAMES = (
    "Amélie", "Björn", "Chloé", "Dmytro", "Esra", "Fátima", "Grace", "Hiroshi", "Ingrid", "João", "Kwame", "Łucja",
    "Minh", "Nour", "Olga", "Priya", "Quinn", "Rosa", "Søren", "Tomás", "Uma", "Věra", "Wanjiru", "Zoë",
)  # fmt: skip
_FAMILY_NAMES = (
    "O'Connor", "Nguyễn", "García Núñez", "Müller-Lüdenscheidt", "Żak", "Okafor", "d’Angelo", "Þórsdóttir", "Smith",
    "Yıldız", "Petrović", "Iyer", "de la Cruz", "Ångström", "Kowalska", "Brown", "van 't Hoff", "Šimůnek", "Silva",
)  # fmt: skip
_WHOLE_NAMES = (
    "李小龙", "田中 さくら", "محمد الفارسي", "Оксана Шевченко", "김민준", "अनन्या शर्मा", "דנה כהן", "Ελένη Παππά",
    "สมชาย ใจดี", 'Robert "Bob" Tables; --',
)  # fmt: skip
_PROJECT_NAMES = (
    "Mobile App", "Billing", "Website", "Datenplattform", "Expérience client", "数据平台", "Платежі", "Search",
    'R&D "Skunkworks"', "Integrações", "Growth 🚀", "Support", "Infrastruktur", "オンボーディング", "التقارير",
)  # fmt: skip


def _person_name(rng: Random) -> str:
    """A given and a family name, or a whole one where the parts of different scripts would not go together."""
    if rng.random() < 0.25:
        return rng.choice(_WHOLE_NAMES)
    return f"{rng.choice(_GIVEN_NAMES)} {rng.choice(_FAMILY_NAMES)}"


WORK_PAST_TENSE = {
    "Add": "Added", "Fix": "Fixed", "Improve": "Improved", "Remove": "Removed", "Rename": "Renamed",
    "Document": "Documented", "Speed up": "Sped up", "Redesign": "Redesigned", "Migrate": "Migrated",
}  # fmt: skip
WORK_SUBJECTS = (
    "invoice export", "login form", "search results", "webhook retries", "audit log", "dark mode", "CSV import",
    "password reset", "team settings", "notification e-mails", "API rate limits", "time zone picker", "board filters",
    "onboarding checklist", "attachment previews", "keyboard shortcuts", "permission checks", "release notes",
)  # fmt: skip
WORK = tuple((verb, subject) for verb in WORK_PAST_TENSE for subject in WORK_SUBJECTS)
_GREETINGS = (
    "Thank you for your reports – here is what changed.",
    "A small release with a few long-awaited things.",
    "Merci à tous nos bêta-testeurs ! 🎉",
)


def _changelogs(rng: Random, version: str) -> tuple[str, str]:
    """A changelog as a machine drafts it, and as a person publishes it after some editing: alike, and never equal."""
    entries = rng.sample(WORK, rng.randint(3, 8))
    draft = [f"## {version}", *(f"- {verb} {subject}" for verb, subject in entries)]
    kept = [entry for entry in entries if rng.random() > 0.12] or entries
    if rng.random() < 0.3:
        rng.shuffle(kept)
    zeal = rng.random()  # Some editors touch every line, others hardly any.
    lines = (f"- {WORK_PAST_TENSE[verb] if rng.random() < zeal else verb} {subject}" for verb, subject in kept)
    return "\n".join(draft), "\n".join([f"## {version}", "", rng.choice(_GREETINGS), "", *lines])
