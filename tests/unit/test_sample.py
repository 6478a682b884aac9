"""The sample platform's rows: their invariants, their shape, and that they can be made again."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain, islice
from math import log
from statistics import mean, median, quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiket_worker.dev.issues import IssueRow, issue_rows
from kiket_worker.dev.sample import (
    Growth,
    OrganizationSpec,
    demo,
    large,
    organization_rows,
    project_rows,
    release_rows,
    tiny,
    user_rows,
)
from kiket_worker.ledger.organizations import Plan
from kiket_worker.tenants.schema import schema_name

NOW = datetime(2026, 3, 18, 14, 30, tzinfo=UTC)  # A Wednesday.
SEED = 20260318
OPEN = {"backlog", "todo", "in_progress", "in_review", "blocked"}
ROWS = (organization_rows, user_rows, project_rows, issue_rows, release_rows)

seeds = st.integers()
moments = st.floats(10**9, 4 * 10**9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))  # 2001 to 2096.
specs = st.builds(
    OrganizationSpec,
    id=st.integers(1, 100_000),
    slug=st.just("acme"),
    name=st.just("Acme"),
    plan=st.sampled_from(Plan),
    projects=st.integers(1, 5),
    users=st.integers(0, 20),
    issues=st.integers(0, 200),
)


def everything(spec: OrganizationSpec, seed: int, now: datetime) -> list[tuple[object, ...]]:
    return list(chain.from_iterable(rows(spec, seed, now) for rows in ROWS))


@pytest.fixture(scope="module")
def demo_issues() -> list[IssueRow]:
    return [issue for spec in demo() for issue in issue_rows(spec, SEED, NOW)]


@given(specs, seeds, moments)
def test_the_same_spec_seed_and_now_give_the_same_rows(spec: OrganizationSpec, seed: int, now: datetime) -> None:
    assert everything(spec, seed, now) == everything(spec, seed, now)


def test_another_seed_gives_other_rows() -> None:
    spec = demo()[0]
    for rows in (user_rows, project_rows, issue_rows, release_rows):
        # Without moments, which differ already because the organisation is founded on another day.
        texts = [[[v for v in row if isinstance(v, str)] for row in rows(spec, seed, NOW)] for seed in (1, 2)]
        assert texts[0] != texts[1], rows.__name__


def test_organisations_with_equal_counts_differ() -> None:
    one = tiny()[0]
    titles = [[issue.title for issue in issue_rows(spec, SEED, NOW)] for spec in (one, replace(one, slug="other"))]
    assert titles[0] != titles[1]


def test_one_organisations_rows_do_not_depend_on_what_else_is_generated() -> None:
    first, second, *_ = tiny()
    alone = list(issue_rows(second, SEED, NOW))
    interleaved = list(zip(issue_rows(first, SEED, NOW), issue_rows(second, SEED, NOW), strict=False))
    assert [issue for _, issue in interleaved] == alone[: len(interleaved)]
    assert len(interleaved) == second.issues


def test_a_now_without_time_zone_is_refused() -> None:
    for rows in ROWS:
        with pytest.raises(ValueError, match="time zone"):
            list(rows(tiny()[0], SEED, NOW.replace(tzinfo=None)))


def test_ten_million_issues_are_not_made_before_they_are_asked_for() -> None:
    spec = OrganizationSpec(1, "acme", "Acme", Plan.ENTERPRISE, projects=500, users=2_000, issues=10_000_000)
    rows = issue_rows(spec, SEED, NOW)
    assert isinstance(rows, Iterator)
    assert [issue.id for issue in islice(rows, 5)] == [spec.row_id(number) for number in range(1, 6)]


@pytest.mark.parametrize(
    "counts",
    [
        {"projects": 1, "users": 1, "issues": 10_000_001},
        {"projects": 0, "users": 1, "issues": 1},
        {"projects": 1, "users": -1, "issues": 1},
    ],
)
def test_counts_that_cannot_be_are_refused(counts: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="acme"):
        OrganizationSpec(1, "acme", "Acme", Plan.TEAM, **counts)


@given(specs, seeds, moments)
def test_an_issues_status_and_moments_agree(spec: OrganizationSpec, seed: int, now: datetime) -> None:
    issues = list(issue_rows(spec, seed, now))
    assert len(issues) == spec.issues
    for issue in issues:
        moments = [issue.created_at, issue.started_at, issue.completed_at, issue.updated_at, now]
        known = [moment for moment in moments if moment is not None]
        assert known == sorted(known)
        assert (issue.completed_at is not None) == (issue.status == "done")
        if issue.status in {"backlog", "todo"}:
            assert issue.started_at is None
        elif issue.status != "cancelled":
            assert issue.started_at is not None


@given(specs, seeds, moments)
def test_ids_are_the_organisations_own_and_refer_to_what_was_there(
    spec: OrganizationSpec, seed: int, now: datetime
) -> None:
    users = {user.id: user for user in user_rows(spec, seed, now)}
    projects = {project.id: project for project in project_rows(spec, seed, now)}
    releases = {release.id: release for release in release_rows(spec, seed, now)}
    issues = {issue.id: issue for issue in issue_rows(spec, seed, now)}
    assert (len(users), len(projects), len(issues)) == (spec.users, spec.projects, spec.issues)
    for row_id in chain(users, projects, releases, issues):
        assert spec.row_id(1) <= row_id < replace(spec, id=spec.id + 1).row_id(1)
    (organization,) = organization_rows(spec, seed, now)
    joined = [user.created_at for user in users.values()] + [project.created_at for project in projects.values()]
    assert all(organization.created_at <= moment <= now for moment in joined)
    for issue in issues.values():
        assert projects[issue.project_id].created_at <= issue.created_at
        assert issue.assignee_id is None or users[issue.assignee_id].created_at <= issue.created_at
        assert issue.organization_id == spec.id
    for release in releases.values():
        assert projects[release.project_id].created_at <= release.created_at
        assert release.released_at is None or release.created_at <= release.released_at <= now


@given(st.integers(1, 3_000), st.integers(0, 10**9), st.integers(1, 10**8), st.data())
def test_nobody_is_counted_before_the_second_of_joining(
    count: int, founded: int, seconds: int, data: st.DataObject
) -> None:
    growth = Growth(founded=founded, until=founded + seconds)
    number = data.draw(st.integers(1, count))
    joined_at = growth.joined_at(number, count)
    assert founded <= joined_at <= growth.until
    assert growth.joined(joined_at, count) >= number
    assert growth.joined(joined_at - 1, count) < number


@given(specs, seeds, moments)
def test_an_epic_comes_before_its_children_and_ends_after_them(
    spec: OrganizationSpec, seed: int, now: datetime
) -> None:
    seen: dict[int, IssueRow] = {}
    for issue in issue_rows(spec, seed, now):
        if issue.parent_id is not None:
            epic = seen[issue.parent_id]  # A KeyError here would be a foreign key that fails.
            assert (epic.issue_type, epic.project_id) == ("epic", issue.project_id)
            assert issue.issue_type != "epic"
            assert epic.status != "done" or issue.status not in OPEN
            if epic.completed_at and issue.completed_at:
                assert issue.completed_at <= epic.completed_at
            assert issue.started_at is None or epic.started_at is not None
        seen[issue.id] = issue


def test_demo_has_nine_organisations_on_all_plans_and_one_without_issues() -> None:
    specs = demo()
    assert len(specs) == 9
    assert set(Counter(spec.plan for spec in specs)) == set(Plan)
    assert sum(spec.issues for spec in specs) >= 50_000
    assert [spec.slug for spec in specs if not spec.issues] == ["quiet-orchard"]
    assert {"blue-harbor", "north_star"} <= {spec.slug for spec in specs}


@pytest.mark.parametrize("specs", [tiny(), demo(), large(2_000, 100_000)], ids=["tiny", "demo", "large"])
def test_every_organisation_has_an_id_and_a_schema_of_its_own(specs: tuple[OrganizationSpec, ...]) -> None:
    assert len({spec.id for spec in specs}) == len(specs)
    assert len({schema_name(spec.slug) for spec in specs}) == len(specs)


@given(st.integers(1, 500), st.integers(0, 1_000_000))
def test_large_shares_out_every_issue_and_the_first_organisation_has_most(organizations: int, issues: int) -> None:
    specs = large(organizations, issues)
    assert len(specs) == organizations
    assert specs[0].slug == "org-000001"
    assert sum(spec.issues for spec in specs) == issues
    # Rounding may give a later one a single issue more.
    assert max(spec.issues for spec in specs) <= specs[0].issues + 1
    assert specs == large(organizations, issues)


@pytest.mark.parametrize("moment", ["created_at", "started_at", "completed_at"])
def test_work_follows_the_week_and_the_working_day(demo_issues: list[IssueRow], moment: str) -> None:
    moments = [getattr(issue, moment) for issue in demo_issues if getattr(issue, moment)]
    days = Counter(when.weekday() for when in moments)
    assert 0 < max(days[5], days[6]) < min(days[day] for day in range(5)) / 4
    at_night = sum(when.hour < 6 or when.hour >= 22 for when in moments)
    assert at_night < 0.05 * len(moments)


def test_an_organisation_grows_over_eighteen_months(demo_issues: list[IssueRow]) -> None:
    ages_days = [(NOW - issue.created_at).days for issue in demo_issues]
    assert 540 <= max(ages_days) <= 550
    assert min(ages_days) == 0
    newest, oldest = (sum(low <= age < low + 90 for age in ages_days) for low in (0, 450))
    assert newest > 1.8 * oldest


def cycle_days(issues: list[IssueRow], *types: str) -> list[float]:
    return [
        (issue.completed_at - issue.started_at).total_seconds() / 86_400
        for issue in issues
        if issue.issue_type in types and issue.started_at and issue.completed_at
    ]


def test_cycle_times_are_log_normal_around_three_days(demo_issues: list[IssueRow]) -> None:
    days = cycle_days(demo_issues, "story", "task", "bug")
    assert 2.5 < median(days) < 3.5
    assert mean(days) > 1.3 * median(days)
    # The logarithms are symmetric, and as wide as asked for; quartiles, for minutes would stretch the moments.
    low, middle, high = quantiles(map(log, (max(day, 1 / 86_400) for day in days)))
    assert 0.75 < (high - low) / 1.349 < 1.15
    assert abs((high - middle) - (middle - low)) < 0.3 * (high - low)


def test_bugs_are_quicker_than_stories_and_stories_than_epics(demo_issues: list[IssueRow]) -> None:
    bug, story, epic = (median(cycle_days(demo_issues, kind)) for kind in ("bug", "story", "epic"))
    assert 1.5 * bug < story < epic / 5


def test_most_issues_belong_to_an_epic_and_some_epics_have_none(demo_issues: list[IssueRow]) -> None:
    epics = {issue.id for issue in demo_issues if issue.issue_type == "epic"}
    parents = {issue.parent_id for issue in demo_issues}
    assert 0.05 < len(epics) / len(demo_issues) < 0.08
    assert 0.7 < sum(issue.parent_id is not None for issue in demo_issues) / len(demo_issues) < 0.9
    assert 0.1 < len(epics - parents) / len(epics) < 0.3


def test_open_issues_are_now_and_then_blocked_or_overdue(demo_issues: list[IssueRow]) -> None:
    still_open = [issue for issue in demo_issues if issue.status in OPEN]
    assert 0.08 < len(still_open) / len(demo_issues) < 0.2
    assert 0.02 < sum(issue.status == "blocked" for issue in still_open) / len(still_open) < 0.045
    overdue = sum(issue.due_on is not None and issue.due_on < NOW.date() for issue in still_open)
    assert 0.03 < overdue / len(still_open) < 0.12


def test_some_done_issues_are_edited_weeks_later_and_some_are_open_again(demo_issues: list[IssueRow]) -> None:
    late_days = [
        (issue.updated_at - issue.completed_at).days
        for issue in demo_issues
        if issue.completed_at and (issue.updated_at - issue.completed_at).days >= 1
    ]
    done = sum(issue.status == "done" for issue in demo_issues)
    assert 0.03 < len(late_days) / done < 0.1
    assert 14 < median(late_days) < 28
    # Bugs are done within days: one that was started long ago and touched weeks later was open again in between.
    reopened = [
        issue
        for issue in demo_issues
        if issue.issue_type == "bug" and issue.status in OPEN and issue.started_at
        if (issue.updated_at - issue.started_at).days >= 21
    ]
    assert len(reopened) > 50


def test_story_points_are_fibonacci_numbers_or_missing(demo_issues: list[IssueRow]) -> None:
    assert {issue.story_points for issue in demo_issues} == {None, 1, 2, 3, 5, 8, 13}


def test_even_the_smallest_sample_has_texts_that_break_careless_readers() -> None:
    titles = "".join(issue.title for spec in tiny() for issue in issue_rows(spec, SEED, NOW))
    for text in ("\t", "'", '"', "\\N", "🐛", "支", "ا", "і", "{{"):
        assert text in titles, repr(text)
    names = "".join(user.name for spec in demo() for user in user_rows(spec, SEED, NOW))
    for text in ("'", '"', "ễ", "李", "ا", "О", "अ"):
        assert text in names, repr(text)


def test_releases_have_a_draft_and_an_edited_changelog_or_lack_one() -> None:
    releases = [release for spec in demo() for release in release_rows(spec, SEED, NOW)]
    pairs = [(row.changelog_draft, row.changelog) for row in releases if row.changelog_draft and row.changelog]
    assert len(pairs) > 0.7 * len(releases)
    for draft, changelog in pairs:
        assert draft != changelog
        assert draft.splitlines()[0] == changelog.splitlines()[0]
    assert any(release.changelog_draft is None for release in releases)
    assert any(release.released_at and release.changelog is None for release in releases)
    assert any(release.released_at is None for release in releases)
    assert all(release.changelog is None for release in releases if release.released_at is None)


def test_an_organisation_without_issues_has_people_and_a_project_and_nothing_done() -> None:
    (quiet,) = (spec for spec in tiny() if not spec.issues)
    assert len(list(user_rows(quiet, SEED, NOW))) == 2
    assert len(list(project_rows(quiet, SEED, NOW))) == 1
    assert list(issue_rows(quiet, SEED, NOW)) == []
    assert list(release_rows(quiet, SEED, NOW)) == []
