"""The ticker: what is due is queued once and published in time, however many tickers run and whatever fails."""

import queue
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kiket_worker.contract import Reason
from kiket_worker.errors import KiketError, RabbitmqUnreachable
from kiket_worker.ledger import attempts, claims, organizations, outbox, runs
from kiket_worker.ledger.claims import Claim
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.organizations import Plan
from kiket_worker.ledger.outbox import Waiting
from kiket_worker.ledger.runs import Request, Status
from kiket_worker.schedule import ticker
from kiket_worker.schedule.cadence import Cadence, publishing_order
from kiket_worker.tenants.schema import schema_name

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
REPUBLISH_SECONDS = 600


@pytest.fixture
def empty_ledger(database: Any) -> Iterator[Database]:
    """The product's way to the ledger of `database`, wide enough for eight tickers and their workers."""
    with Database(database.url, max_connections=16) as opened:
        yield opened


@dataclass(frozen=True)
class Organization:
    """What a test puts into the platform and the settings."""

    slug: str
    plan: str = Plan.BUSINESS
    enabled: bool | None = True  # None: no settings.
    refresh_interval_hours: int | None = None
    last_run_at: datetime | None = None


def fill(database: Any, *wanted: Organization) -> None:
    """Make the platform have these organisations alone, with ids from 1 on."""
    with database.connect() as connection, connection.transaction():
        connection.execute("delete from kiket_analytics.runs")
        connection.execute("delete from kiket_analytics.analytics_settings")
        connection.execute("delete from public.organizations")
        with connection.cursor() as cursor:
            cursor.executemany(
                "insert into public.organizations (id, slug, name, plan, created_at) values (%s, %s, 'N', %s, %s)",
                [(number, one.slug, one.plan, NOW) for number, one in enumerate(wanted, 1)],
            )
            cursor.executemany(
                "insert into kiket_analytics.analytics_settings"
                " (organization_id, enabled, refresh_interval_hours, last_run_at) values (%s, %s, %s, %s)",
                [
                    (number, one.enabled, one.refresh_interval_hours, one.last_run_at)
                    for number, one in enumerate(wanted, 1)
                    if one.enabled is not None
                ],
            )


def due(ledger: Database, now: datetime = NOW) -> set[str]:
    return {run.organization_slug for run in outbox.queue_due(ledger, now)}


def publish_all(ledger: Database) -> list[str]:
    published: list[str] = []
    count = outbox.publish_waiting(
        ledger, lambda run: published.append(run.organization_slug), republish_after_seconds=REPUBLISH_SECONDS
    )
    assert count == len(published)
    return published


def take(ledger: Database, run_id: UUID) -> Claim:
    taken = claims.claim(
        ledger, run_id, worker="worker", ttl_seconds=60, schema_name=schema_name, end_sessions=lambda *_: 0
    )
    assert isinstance(taken, Claim)
    return taken


def run_counts(database: Any) -> Counter[str]:
    return Counter(row["slug"] for row in database.rows("select organization_slug as slug from kiket_analytics.runs"))


@st.composite
def near_due(draw: st.DrawFn) -> Cadence:
    """A cadence whose last run is anywhere, mostly near the moment at which it makes the organisation due at `NOW`."""
    cadence = Cadence(
        draw(st.sampled_from(Plan)),
        enabled=draw(st.sampled_from([True, True, True, False])),
        refresh_interval_hours=draw(st.none() | st.integers(1, 8760)),
    )
    overdue = draw(
        st.none()
        | st.sampled_from([timedelta(0), MICROSECOND, -MICROSECOND])
        | st.timedeltas(timedelta(days=-400), timedelta(days=400))
    )
    return cadence if overdue is None else replace(cadence, last_run_at=NOW - cadence.interval - overdue)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cadences=st.lists(near_due(), min_size=1, max_size=8))
@example(cadences=[Cadence(plan, enabled=True, last_run_at=NOW - timedelta(hours=6)) for plan in Plan])
def test_the_statement_and_the_rule_agree_on_who_is_due_and_how_urgently(
    empty_ledger: Database, database: Any, cadences: list[Cadence]
) -> None:
    fill(
        database,
        *(
            Organization(f"o{number}", one.plan, one.enabled, one.refresh_interval_hours, one.last_run_at)
            for number, one in enumerate(cadences)
        ),
    )
    expected = {f"o{number}": one.urgency(NOW) for number, one in enumerate(cadences) if one.is_due(NOW)}
    assert due(empty_ledger) == expected.keys()
    found = database.rows("select organization_slug, urgency, queued_at, reason from kiket_analytics.runs")
    assert {row["organization_slug"]: row["urgency"] for row in found} == pytest.approx(expected)
    assert all(row["queued_at"] == NOW and row["reason"] == "scheduled" for row in found)
    assert due(empty_ledger) == set()  # What waits already is not queued again.


def test_nobody_is_due_without_settings_or_while_paused(empty_ledger: Database, database: Any) -> None:
    fill(database, Organization("none", enabled=None), Organization("paused", enabled=False), Organization("on"))
    assert due(empty_ledger) == {"on"}


def test_settings_of_an_organisation_that_is_gone_do_no_harm(empty_ledger: Database, database: Any) -> None:
    fill(database, Organization("gone"), Organization("there"))
    database.execute("delete from public.organizations where slug = 'gone'")
    assert due(empty_ledger) == {"there"}


def test_a_plan_without_default_needs_an_interval_of_its_own(empty_ledger: Database, database: Any) -> None:
    database.execute("alter table public.organizations drop constraint organizations_plan_check")
    long_ago = NOW - timedelta(days=30)
    fill(
        database,
        Organization("never-ran", "platinum"),
        Organization("ran", "platinum", last_run_at=long_ago),
        Organization("own-never-ran", "platinum", refresh_interval_hours=2),
        Organization("own-due", "platinum", refresh_interval_hours=2, last_run_at=NOW - timedelta(hours=2)),
        Organization("own-not-due", "platinum", refresh_interval_hours=2, last_run_at=NOW - timedelta(hours=1)),
    )
    listed = {one.slug: one.due_at for one in organizations.list_with_settings(empty_ledger)}
    assert listed["never-ran"] is None
    assert listed["ran"] is None
    assert listed["own-due"] == NOW
    assert due(empty_ledger) == {"own-never-ran", "own-due"}


@pytest.mark.parametrize("slug", ["Acme", "a b", "-a", "a-", "_a", "ä", "a\n", "a" * 50, 'a"; drop schema public; --'])
def test_a_slug_that_cannot_be_a_schema_is_not_queued(empty_ledger: Database, database: Any, slug: str) -> None:
    fill(database, Organization(slug), Organization("good"), Organization("a" * 49), Organization("0"))
    listed = {one.slug: one for one in organizations.list_with_settings(empty_ledger)}
    assert (listed[slug].can_have_schema, listed[slug].due_at) == (False, None)
    assert due(empty_ledger) == {one.slug for one in listed.values() if one.due_at} == {"good", "a" * 49, "0"}


def test_a_schema_of_another_organisation_is_not_queued_for(empty_ledger: Database, database: Any) -> None:
    fill(database, Organization("a-b"), Organization("a_b"), Organization("shared-name"))
    for schema, owner in (("analytics_org_a_b", 2), ("analytics_org_shared_name", None)):
        database.execute(
            "insert into kiket_analytics.leases (schema_name, organization_id) values (%s, %s)", schema, owner
        )
    listed = organizations.list_with_settings(empty_ledger)
    assert {one.slug for one in listed if one.can_have_schema} == {one.slug for one in listed if one.due_at} == {"a_b"}
    assert due(empty_ledger) == {"a_b"}


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING, Status.BUILT, Status.ARCHIVED])
def test_an_organisation_with_an_active_run_is_not_queued_again(
    empty_ledger: Database, database: Any, status: Status
) -> None:
    fill(database, Organization("acme"))
    run_id = runs.request(empty_ledger, Request(1, "acme")).run_id
    if status is not Status.QUEUED:
        taken = take(empty_ledger, run_id)
        if status is not Status.RUNNING:
            attempts.mark_built(empty_ledger, taken)
        if status is Status.ARCHIVED:
            attempts.mark_archived(empty_ledger, taken, location="x", index_sha256="0" * 64)
    assert due(empty_ledger) == set()


@pytest.mark.parametrize("ended", ["succeeded", "failed", "cancelled"])
def test_a_run_counts_as_the_last_one_from_its_start_however_it_ends(
    empty_ledger: Database, database: Any, ended: str
) -> None:
    fill(database, Organization("acme", Plan.TEAM))
    (queued,) = outbox.queue_due(empty_ledger, NOW)
    taken = take(empty_ledger, queued.run_id)
    if ended == "failed":
        attempts.fail(empty_ledger, taken, KiketError("broken"))
    elif ended == "cancelled":
        attempts.cancelled(empty_ledger, taken)
    else:
        attempts.mark_built(empty_ledger, taken)
        attempts.mark_archived(empty_ledger, taken, location="x", index_sha256="0" * 64)
        attempts.succeed(empty_ledger, taken)
    assert taken.run.started_at is not None
    due_at = taken.run.started_at + timedelta(hours=12)
    assert due(empty_ledger, due_at - MICROSECOND) == set()
    assert due(empty_ledger, due_at) == {"acme"}


def test_requests_are_published_first_then_who_never_ran_then_who_is_most_overdue_for_its_interval(
    empty_ledger: Database, database: Any
) -> None:
    def ago(**span: float) -> datetime:
        return NOW - timedelta(**span)

    fill(
        database,
        Organization("by-24-of-24", Plan.STARTER, last_run_at=ago(hours=48)),
        Organization("by-2-of-1", Plan.ENTERPRISE, last_run_at=ago(hours=3)),
        Organization("by-0-of-12", Plan.TEAM, last_run_at=ago(hours=12)),
        Organization("never-ran", Plan.STARTER),
        Organization("by-9-of-6", Plan.BUSINESS, last_run_at=ago(hours=15)),
        Organization("asked-first", Plan.STARTER, last_run_at=NOW),
        Organization("asked-second", Plan.STARTER, last_run_at=NOW),
    )
    outbox.queue_due(empty_ledger, NOW)
    for organization_id, slug in ((6, "asked-first"), (7, "asked-second")):
        runs.request(empty_ledger, Request(organization_id, slug))
    assert publish_all(empty_ledger) == [
        "asked-first",
        "asked-second",
        "never-ran",
        "by-2-of-1",
        "by-9-of-6",
        "by-24-of-24",
        "by-0-of-12",
    ]
    assert publish_all(empty_ledger) == []


def test_a_tick_queues_publishes_and_tells_what_it_did(empty_ledger: Database, database: Any) -> None:
    fill(database, Organization("acme"), Organization("blue"))
    runs.request(empty_ledger, Request(2, "blue", reason=Reason.SYNC))
    published: list[Waiting] = []
    done = ticker.tick(empty_ledger, published.append, now=NOW, republish_after_seconds=REPUBLISH_SECONDS)
    assert [run.organization_slug for run in done.queued] == ["acme"]
    assert done.published == 2
    assert [(run.organization_slug, run.reason) for run in published] == [
        ("blue", Reason.SYNC),
        ("acme", Reason.SCHEDULED),
    ]
    assert database.rows("select ticked_at from kiket_analytics.ticker") == [{"ticked_at": NOW}]


@pytest.mark.parametrize("tickers", [2, 8])
def test_tickers_side_by_side_queue_and_publish_each_organisation_once(
    empty_ledger: Database, database: Any, tickers: int
) -> None:
    wanted = [Organization(f"o{number}") for number in range(40)]
    with ThreadPoolExecutor(tickers) as pool:
        for _ in range(8):
            fill(database, *wanted)
            published: list[str] = []
            together = threading.Barrier(tickers)

            def publish(run: Waiting, published: list[str] = published) -> None:
                published.append(run.organization_slug)

            def tick(together: threading.Barrier = together, publish: Any = publish) -> tuple[Waiting, ...]:
                together.wait(30)
                return ticker.tick(
                    empty_ledger,
                    publish,
                    now=NOW,
                    republish_after_seconds=REPUBLISH_SECONDS,
                ).queued

            told = [future.result(60) for future in [pool.submit(tick) for _ in range(tickers)]]
            once = Counter(one.slug for one in wanted)
            assert Counter(run.organization_slug for queued in told for run in queued) == once
            assert run_counts(database) == once
            # A ticker passes by what another is publishing, so what is left, if anything, is for the next tick.
            published += publish_all(empty_ledger)
            assert Counter(published) == once


@pytest.mark.parametrize("tickers", [2, 8])
def test_tickers_side_by_side_queue_nobody_twice_while_workers_finish_runs(
    empty_ledger: Database, database: Any, tickers: int
) -> None:
    wanted = [Organization(f"o{number}", Plan.ENTERPRISE) for number in range(30)]
    fill(database, *wanted)
    for finished_rounds in range(4):
        database.execute("update kiket_analytics.analytics_settings set last_run_at = null")
        messages: queue.SimpleQueue[UUID | None] = queue.SimpleQueue()
        together = threading.Barrier(tickers + 2)

        def tick(together: threading.Barrier = together, messages: Any = messages) -> None:
            together.wait(30)
            for _ in range(4):
                ticker.tick(
                    empty_ledger,
                    lambda run: messages.put(run.run_id),
                    now=datetime.now(UTC),
                    republish_after_seconds=REPUBLISH_SECONDS,
                )

        def work(together: threading.Barrier = together, messages: Any = messages) -> None:
            together.wait(30)
            while run_id := messages.get(timeout=30):
                attempts.fail(empty_ledger, take(empty_ledger, run_id), KiketError("broken"))

        with ThreadPoolExecutor(tickers + 2) as pool:
            working = [pool.submit(work) for _ in range(2)]
            for future in [pool.submit(tick) for _ in range(tickers)]:
                future.result(60)
            for _ in working:
                messages.put(None)
            for future in working:
                future.result(60)
        assert run_counts(database) == Counter({one.slug: finished_rounds + 1 for one in wanted})
        assert {row["status"] for row in database.rows("select status from kiket_analytics.runs")} == {"failed"}


def test_a_ticker_waits_while_another_one_queues(empty_ledger: Database, database: Any) -> None:
    fill(database, Organization("acme"))
    with ThreadPoolExecutor(1) as pool:
        with database.connect() as other, other.transaction():
            other.execute("update kiket_analytics.ticker set ticked_at = now()")
            ticking = pool.submit(due, empty_ledger)
            _until_somebody_waits(database)
            other.execute(
                "insert into kiket_analytics.runs (organization_id, organization_slug, reason)"
                " values (1, 'acme', 'scheduled')"
            )
        assert ticking.result(30) == set()
    assert run_counts(database) == Counter({"acme": 1})


def test_a_publish_that_fails_half_way_loses_nothing_and_repeats_nothing(empty_ledger: Database, database: Any) -> None:
    wanted = [Organization(f"o{number}") for number in range(5)]
    fill(database, *wanted)
    sent: list[str] = []

    def publish(run: Waiting) -> None:
        if len(sent) == 2:
            raise RabbitmqUnreachable("gone")
        sent.append(run.organization_slug)

    with pytest.raises(RabbitmqUnreachable):
        ticker.tick(empty_ledger, publish, now=NOW, republish_after_seconds=REPUBLISH_SECONDS)
    assert run_counts(database) == Counter(one.slug for one in wanted)
    marked = database.rows("select organization_slug from kiket_analytics.runs where published_at is not null")
    assert sorted(row["organization_slug"] for row in marked) == sorted(sent)
    later: list[str] = []
    done = ticker.tick(
        empty_ledger, lambda run: later.append(run.organization_slug), now=NOW, republish_after_seconds=600
    )
    assert (done.queued, done.published) == ((), 3)
    assert sorted(sent + later) == sorted(one.slug for one in wanted)


def test_a_waiting_run_is_published_again_after_the_time_in_which_its_message_must_have_come(
    empty_ledger: Database, database: Any
) -> None:
    fill(database, Organization("acme"))
    runs.request(empty_ledger, Request(1, "acme"))
    assert publish_all(empty_ledger) == ["acme"]
    for seconds, again in ((REPUBLISH_SECONDS - 60, []), (REPUBLISH_SECONDS + 1, ["acme"])):
        database.execute(
            "update kiket_analytics.runs set published_at = now() - make_interval(secs => %s)", float(seconds)
        )
        assert publish_all(empty_ledger) == again
    assert publish_all(empty_ledger) == []


def test_a_run_whose_worker_died_is_published_once_for_each_expiry(empty_ledger: Database, database: Any) -> None:
    def expire() -> None:
        database.execute("update kiket_analytics.leases set expires_at = now()")

    fill(database, Organization("acme"))
    run_id = runs.request(empty_ledger, Request(1, "acme")).run_id
    assert publish_all(empty_ledger) == ["acme"]
    taken = take(empty_ledger, run_id)
    assert publish_all(empty_ledger) == []  # Its worker lives.
    expire()
    assert publish_all(empty_ledger) == ["acme"]
    assert publish_all(empty_ledger) == []
    taken = take(empty_ledger, run_id)
    attempts.mark_built(empty_ledger, taken)
    attempts.mark_archived(empty_ledger, taken, location="x", index_sha256="0" * 64)
    expire()
    assert publish_all(empty_ledger) == ["acme"]
    assert publish_all(empty_ledger) == []
    # That message was lost as well.
    database.execute(
        "update kiket_analytics.runs set published_at = now() - make_interval(secs => %s)", REPUBLISH_SECONDS + 1
    )
    assert publish_all(empty_ledger) == ["acme"]
    attempts.succeed(empty_ledger, take(empty_ledger, run_id))
    assert publish_all(empty_ledger) == []


def test_a_request_is_published_without_waiting_for_a_tick(empty_ledger: Database, database: Any) -> None:
    fill(database, Organization("acme"), Organization("blue"))
    run_id = runs.request(empty_ledger, Request(1, "acme")).run_id
    runs.request(empty_ledger, Request(2, "blue"))
    published: list[Waiting] = []
    outbox.publish_of(empty_ledger, published.append, 1)
    assert published == [Waiting(run_id, "acme", Reason.MANUAL)]
    assert publish_all(empty_ledger) == ["blue"]


def test_more_runs_than_one_look_gives_are_all_published_by_one_tick(empty_ledger: Database, database: Any) -> None:
    wanted = [Organization(f"o{number:04d}", last_run_at=NOW - timedelta(days=number + 1)) for number in range(2103)]
    fill(database, *wanted)
    published: list[str] = []
    done = ticker.tick(
        empty_ledger,
        lambda run: published.append(run.organization_slug),
        now=NOW,
        republish_after_seconds=REPUBLISH_SECONDS,
    )
    assert (len(done.queued), done.published) == (2103, 2103)
    assert published == [one.slug for one in reversed(wanted)]
    assert publish_all(empty_ledger) == []


def test_ticking_goes_on_after_a_tick_that_failed_and_ends_when_it_is_told_to(
    empty_ledger: Database, database: Any
) -> None:
    fill(database, Organization("acme"))
    stopped = threading.Event()
    tries: list[str] = []
    swept: list[int] = []
    beats: list[int] = []

    def publish(run: Waiting) -> None:
        tries.append(run.organization_slug)
        if len(tries) < 3:
            raise RabbitmqUnreachable("gone")
        stopped.set()

    ticker.tick_until(
        stopped,
        empty_ledger,
        publish,
        lambda: swept.append(len(tries)),
        lambda: beats.append(len(tries)),
        interval_seconds=0.001,
        outbox_interval_seconds=0.001,
        republish_after_seconds=600,
    )
    assert tries == ["acme"] * 3
    assert swept in ([], [3]), "a tick that failed is not followed by a sweep"
    assert beats == [0, 1, 2], "the loop gives a sign of life each time round, whatever became of the tick"
    assert database.rows("select from kiket_analytics.runs where published_at is not null")


def test_ticking_ends_at_once_in_the_middle_of_an_interval(empty_ledger: Database, database: Any) -> None:
    fill(database, Organization("acme"))
    stopped, published = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        ticking = pool.submit(
            ticker.tick_until,
            stopped,
            empty_ledger,
            lambda _: published.set(),
            lambda: None,
            interval_seconds=3600,
            outbox_interval_seconds=3600,
            republish_after_seconds=600,
        )
        assert published.wait(30)
        stopped.set()
        ticking.result(30)


def _until_somebody_waits(database: Any) -> None:
    with database.connect() as connection:
        for _ in range(3000):
            if connection.execute(
                "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
            ).fetchall():
                return
            connection.execute("select pg_sleep(0.01)")
    raise AssertionError("nobody waits for a lock")


def test_a_plan_that_changes_counts_from_the_next_tick(empty_ledger: Database, database: Any) -> None:
    three_hours_ago = NOW - timedelta(hours=3)
    fill(database, Organization("up", Plan.STARTER, last_run_at=three_hours_ago))
    assert due(empty_ledger) == set()
    database.execute("update public.organizations set plan = 'enterprise'")
    assert due(empty_ledger) == {"up"}


def test_where_all_are_one_batch_every_tick_compares_all(
    empty_ledger: Database, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "COMPARED_AT_ONCE", 2)
    three_hours_ago = NOW - timedelta(hours=3)
    fill(database, *(Organization(f"o{n}", Plan.STARTER, last_run_at=three_hours_ago) for n in (1, 2)))
    assert due(empty_ledger) == set()
    found = []
    for slug in ("o1", "o2"):
        database.execute("update public.organizations set plan = 'enterprise' where slug = %s", slug)
        found.append(due(empty_ledger))
    assert found == [{"o1"}, {"o2"}]


def test_plans_of_many_are_compared_batch_by_batch_and_begin_anew_after_the_last(
    empty_ledger: Database, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "COMPARED_AT_ONCE", 2)
    three_hours_ago = NOW - timedelta(hours=3)
    fill(database, *(Organization(f"o{n}", Plan.STARTER, last_run_at=three_hours_ago) for n in range(1, 6)))

    def known() -> list[int | None]:
        query = "select plan_hours from kiket_analytics.analytics_settings order by organization_id"
        return [row["plan_hours"] for row in database.rows(query)]

    assert due(empty_ledger) == set()
    assert known() == [24] * 5, "what was never compared is compared at once"
    database.execute("update public.organizations set plan = 'enterprise'")
    found = [due(empty_ledger) for _ in range(2)]
    assert found == [{f"o{n}" for n in range(1, 6)}, set()], "as many as changed at once are noted at once"
    database.execute("update public.organizations set plan = 'team' where id in (1, 5)")
    for _ in range(3):
        due(empty_ledger)
    assert known() == [12, 1, 1, 1, 12], "every batch has its turn"


def test_a_plan_that_the_index_does_not_know_yet_makes_nobody_due_too_soon(
    empty_ledger: Database, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database, Organization("down", Plan.ENTERPRISE, last_run_at=NOW - timedelta(hours=3)))
    monkeypatch.setattr(outbox, "_compare_plans", lambda _: None)
    database.execute("update kiket_analytics.analytics_settings set plan_hours = 1")
    database.execute("update public.organizations set plan = 'starter'")
    assert due(empty_ledger) == set()


def test_comparing_plans_waits_for_nobody_who_changes_settings(empty_ledger: Database, database: Any) -> None:
    fill(database, Organization("held", last_run_at=NOW), Organization("free", last_run_at=NOW))
    with database.connect() as other, other.transaction():
        other.execute("select from kiket_analytics.analytics_settings where organization_id = 1 for update")
        assert due(empty_ledger) == set()
    rows = database.rows("select organization_id, plan_hours from kiket_analytics.analytics_settings order by 1")
    assert [row["plan_hours"] for row in rows] == [None, 6]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    waiting=st.lists(
        st.tuples(st.none() | st.just(float("inf")) | st.sampled_from([0.0, 0.1, 1.0, 24.0]), st.integers(0, 3)),
        min_size=1,
        max_size=8,
    )
)
def test_the_statement_and_the_rule_agree_on_who_is_published_first(
    empty_ledger: Database, database: Any, waiting: list[tuple[float | None, int]]
) -> None:
    fill(database)
    expected = []
    for number, (urgency, minutes) in enumerate(waiting, 1):
        queued_at = NOW + timedelta(minutes=minutes)
        (row,) = database.rows(
            "insert into kiket_analytics.runs (organization_id, organization_slug, reason, urgency, queued_at)"
            " values (%s, %s, 'scheduled', %s, %s) returning run_id",
            *(number, f"o{number}", urgency, queued_at),
        )
        expected.append((publishing_order(urgency, queued_at, row["run_id"]), f"o{number}"))
    assert publish_all(empty_ledger) == [slug for _, slug in sorted(expected)]
