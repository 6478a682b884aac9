"""The sample platform's issues: what makes analytics of them look like analytics of a real tracker.

Work follows the week and the working day and grows over eighteen months; cycle times are log-normal, bugs quicker than
stories; epics have children and some have none; issues are blocked, overdue, re-opened, or edited weeks after they
were done. Pure and lazy, as in `sample.py`.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from itertools import accumulate
from math import exp, log
from random import Random
from typing import NamedTuple

from kiket_worker.dev.sample import DAY, HISTORY_DAYS, WORK, Growth, OrganizationSpec, at_work, to_datetime, weekday

HOUR = 3600
EPIC_SHARE = 0.06


class IssueRow(NamedTuple):
    """A row of `issues`; fields are named as the table's columns."""

    id: int
    organization_id: int
    project_id: int
    parent_id: int | None
    assignee_id: int | None
    issue_type: str
    title: str
    status: str
    priority: str
    story_points: int | None
    due_on: date | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    updated_at: datetime


def issue_rows(spec: OrganizationSpec, seed: int, now: datetime) -> Iterator[IssueRow]:
    """The organisation's issues, oldest first, so that every epic comes before its children."""
    rng = Random(f"{seed}:{spec.slug}:issues")
    random = rng.random
    growth = Growth.of(spec, seed, now)
    hours = _working_hours(growth.until)
    epics_of_project: dict[int, list[_Epic]] = {}
    epic_pace = _epic_pace(spec)
    for number in range(1, spec.issues + 1):
        created = hours.moment((number - random()) / spec.issues)
        # Powers favour low numbers: the oldest projects and people have most of the work.
        project = 1 + int(growth.joined(created, spec.projects) * random() ** 1.5)
        epics = epics_of_project.setdefault(project, [])
        parent_id = story_points = assignee_id = None
        if not epics or epics[-1].ends <= created or random() < EPIC_SHARE:
            issue_type = "epic"
            title = rng.choice(_EPIC_TITLES)
            life = _live(rng, created, growth.until, epic_pace)
            if not epics or random() < 0.85:  # The others never get children.
                _remember(epics, _Epic(spec.row_id(number), life.begins, life.ends), created)
        else:
            issue_type = rng.choice(_TYPES)
            title = rng.choice(_TITLES)
            life = _live(rng, created, growth.until, _PACES[issue_type])
            parent_id = _parent(rng, epics, life)
            story_points = rng.choice(_STORY_POINTS)
        if number % 7 == 0:  # Counted and not drawn, so that even a small sample has every odd title.
            title = _ODD_TITLES[number // 7 % len(_ODD_TITLES)]
        if spec.users and random() < (0.35 if life.started is None else 0.93):
            assignee_id = spec.row_id(1 + int(growth.joined(created, spec.users) * random() ** 2))
        yield IssueRow(
            spec.row_id(number),
            spec.id,
            spec.row_id(project),
            parent_id,
            assignee_id,
            issue_type,
            title,
            life.status,
            rng.choice(_PRIORITIES),
            story_points,
            _due_on(rng, created, growth.until, life, median_days=90 if issue_type == "epic" else 21),
            to_datetime(created),
            None if life.started is None else to_datetime(life.started),
            None if life.completed is None else to_datetime(life.completed),
            to_datetime(life.updated),
        )


class _Life(NamedTuple):
    """What became of an issue by now, in seconds since 1970."""

    status: str
    started: int | None
    completed: int | None
    updated: int

    @property
    def begins(self) -> int:
        """When work began; later than everything if it has not."""
        return _NEVER if self.started is None else self.started

    @property
    def ends(self) -> int:
        """When it was done or cancelled; later than everything if it is open."""
        if self.status == "cancelled":
            return self.updated
        return _NEVER if self.completed is None else self.completed


@dataclass(frozen=True)
class _Pace:
    """How long a kind of issue waits and is worked on: medians, and the spread of the logarithms."""

    wait_days: float
    cycle_days: float
    cycle_sigma: float


_NEVER = 1 << 62
_PACES = {"story": _Pace(5, 4.2, 0.9), "task": _Pace(4, 2.8, 0.9), "bug": _Pace(1.5, 1.7, 0.9)}


def _epic_pace(spec: OrganizationSpec) -> _Pace:
    """Epics of projects where little happens stay open longer: else most issues there would find none to belong to."""
    days_between_epics = HISTORY_DAYS * spec.projects / (1 + spec.issues * EPIC_SHARE)
    return _Pace(wait_days=0.5, cycle_days=min(300.0, max(45.0, 2 * days_between_epics)), cycle_sigma=0.5)


def _live(rng: Random, created: int, until: int, pace: _Pace) -> _Life:
    """An issue's life until now. Of a hundred, five are cancelled, seven never started and one is never finished."""
    fate = rng.random()
    started = at_work(rng, created + _lognormal(rng, pace.wait_days, 1.2), created)
    if fate < 0.05:
        dropped = at_work(rng, started + _lognormal(rng, 20, 1.0), started)
        if dropped <= until:
            return _Life("cancelled", started if rng.random() < 0.4 else None, None, dropped)
    if fate < 0.12 or started > until:
        return _Life(rng.choice(_UNSTARTED), None, None, _touched(rng, created, until))
    completed = at_work(rng, started + _lognormal(rng, pace.cycle_days, pace.cycle_sigma), started)
    stuck = fate < 0.13
    if stuck or completed > until:
        return _Life(rng.choice(_STUCK if stuck else _IN_FLIGHT), started, None, _touched(rng, started, until))
    if rng.random() < 0.08:
        later = at_work(rng, completed + rng.randint(2 * DAY, 40 * DAY), completed)
        if later <= until:
            # One in six is re-opened; the others had a label changed or a comment, long after they counted as done.
            if rng.random() < 0.17:
                return _Life(rng.choice(_IN_FLIGHT), started, None, later)
            return _Life("done", started, completed, later)
    return _Life("done", started, completed, min(until, completed + rng.randrange(2 * HOUR)))


def _touched(rng: Random, earliest: int, until: int) -> int:
    """When somebody last changed an open issue: mostly soon after its last step."""
    return min(until, at_work(rng, earliest + _lognormal(rng, 1, 1.5), earliest))


def _lognormal(rng: Random, median_days: float, sigma: float) -> int:
    """A duration in seconds, of which half are shorter than the median and a few very much longer."""
    return int(median_days * DAY * exp(rng.gauss(0.0, sigma)))


def _due_on(rng: Random, created: int, until: int, life: _Life, *, median_days: float) -> date | None:
    """The day by which the issue should be done; most have none."""
    if rng.random() > 0.35:
        return None
    due = created + _lognormal(rng, median_days, 0.7)
    if due < until and life.ends == _NEVER and rng.random() < 0.7:
        due = until + int(rng.random() * 45 * DAY)  # Most of what was not done in time got a new date.
    return date.fromordinal(date(1970, 1, 1).toordinal() + due // DAY)


class _Epic(NamedTuple):
    """An epic that issues of its project may belong to, and the span of its life."""

    id: int
    begins: int
    ends: int


def _remember(epics: list[_Epic], epic: _Epic, created: int) -> None:
    """Adds an epic to those of its project and forgets closed and old ones, so that memory stays flat."""
    epics[:] = [*(known for known in epics if known.ends > created), epic][-12:]


def _parent(rng: Random, epics: list[_Epic], life: _Life) -> int | None:
    """The id of an epic whose life spans the issue's: no epic is done before its children, or begun after them."""
    if rng.random() < 0.12:
        return None
    first = int(rng.random() * len(epics))
    begins, ends = life.begins, life.ends
    for epic in epics[first:] + epics[:first]:
        if epic.begins <= begins and ends <= epic.ends:
            return epic.id
    return None


@dataclass(frozen=True)
class _WorkingHours:
    """The hours of the history, each with the share of all issues that had been created when it began."""

    starts: range
    shares: list[float]
    until: int

    def moment(self, fraction: float) -> int:
        """When that fraction of all issues had been created: from evenly spread fractions come the rhythm's moments."""
        hour = bisect_right(self.shares, fraction, 0, len(self.starts)) - 1
        start, share = self.starts[hour], self.shares[hour]
        passed = (fraction - share) / (self.shares[hour + 1] - share)
        return start + int(passed * min(HOUR, self.until - start))


@lru_cache(maxsize=4)  # It is the same for all organisations, and there may be thousands.
def _working_hours(until: int) -> _WorkingHours:
    starts = range((until // DAY - HISTORY_DAYS) * DAY, until, HOUR)
    # The last month has three times the issues of the first.
    weights = [
        exp(log(3) * index / len(starts)) * _WEEK[weekday(start)] * _WORKDAY[start % DAY // HOUR]
        for index, start in enumerate(starts)
    ]
    weights[-1] *= (until - starts[-1]) / HOUR  # The hour that is not over yet.
    total = sum(weights)
    return _WorkingHours(starts, [weight / total for weight in accumulate(weights, initial=0.0)], until)


_WEEK = (1.05, 1.15, 1.1, 1.05, 0.9, 0.1, 0.08)  # From Monday.
_WORKDAY = (*[0.02] * 6, 0.1, 0.4, 0.9, 1.3, 1.4, 1.2, 0.7, 1.0, 1.3, 1.2, 1.0, 0.6, 0.3, 0.15, *[0.05] * 4)

# Tables to choose from, each value as often as its weight says: choosing from a sequence is the quickest there is.
_TYPES = ("story",) * 8 + ("task",) * 7 + ("bug",) * 5
_PRIORITIES = ("low",) * 4 + ("medium",) * 10 + ("high",) * 5 + ("urgent",)
_STORY_POINTS = (None,) * 5 + (1,) * 4 + (2,) * 5 + (3,) * 5 + (5,) * 4 + (8,) * 2 + (13,)
_UNSTARTED = ("backlog",) * 3 + ("todo",) * 2
_IN_FLIGHT = ("in_progress",) * 10 + ("in_review",) * 5 + ("blocked",)
_STUCK = ("in_progress",) * 2 + ("in_review",) + ("blocked",)

_TITLES = tuple(f"{verb} {subject}" for verb, subject in WORK)
_EPIC_TITLES = (
    "Self-service billing", "One search for everything", "Accessibility: WCAG 2.2 AA", "Mobile launch 📱",
    "Mehrsprachigkeit", "新規ユーザー体験", "Single sign-on", "Faster first page", "Migración a la nube",
    "Звіти для керівників", "Public API v2", "Audit & compliance", "Offline mode", "Customers' “top ten”",
)  # fmt: skip
_ODD_TITLES = (
    "Größe der Schriftart wird beim „Übersetzen“ vergessen",
    "It's \"quoted\", isn't it? Don't drop the user's table; --",
    "Paths such as C:\\new\\table and the text \\N must survive",
    "Pasted\tfrom a spreadsheet\twith tabs",
    "支払い画面が真っ白になる 🐛",
    "إصلاح اتجاه النص في التقارير",
    "Зберігати фільтри після оновлення сторінки ✅",
    "👩‍👩‍👧‍👦 in a name: e\u0301 is not é, says the 100 % strict {{ template }}",
)
