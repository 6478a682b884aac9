"""The figures of the overview and of an organisation's page, against what the test has put into the ledger."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest

from kiket_worker.ledger import history, overview, runs
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.overview import PlanStanding
from kiket_worker.ledger.runs import Status
from tests.support.console import Console, Served
from tests.support.dbt_scripts import FAILING
from tests.support.pages import session, tables
from tests.support.refreshes import Refreshes, claimed


@pytest.fixture
def ops(served: Served) -> Iterator[httpx.Client]:
    """An operator's browser."""
    with session(served, served.console.token()) as client:
        yield client


def shown(client: httpx.Client, path: str = "/") -> dict[str, list[list[str]]]:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return tables(answer.text)


def use(database: Any, organization_id: int, metric: str, quantity: int, at: datetime | None = None) -> None:
    database.execute(
        "insert into kiket_analytics.usage_events (organization_id, metric, quantity, unit, recorded_at)"
        " values (%s, %s, %s, 'unit', %s)",
        *(organization_id, metric, quantity, at or datetime.now(UTC)),
    )


def began(database: Any, organization_id: int, hours_ago: float) -> None:
    """Have an organisation's last run begun so long ago, and half a minute, which no figure shows."""
    database.execute(
        "update kiket_analytics.analytics_settings set last_run_at = now() - make_interval(secs => %s)"
        " where organization_id = %s",
        *(3600 * hours_ago + 30, organization_id),
    )


def test_the_overview_counts_what_there_is(refreshes: Refreshes, console: Console, sample_database: Any) -> None:
    for slug, script in (("acme", 'build("a")'), ("blue-harbor", FAILING)):
        refreshes.start(refreshes.request(slug), refreshes.services(script)).wait()
    going = refreshes.request("north_star")
    sample_database.execute("update kiket_analytics.analytics_settings set enabled = false where organization_id = 4")
    seen = overview.look(console.ledger, console.prices, now=datetime.now(UTC))
    assert sum(plan.organizations for plan in seen.plans) == 4
    assert sum(plan.enabled for plan in seen.plans) == 3
    assert sum(plan.never_refreshed for plan in seen.plans) == 1
    # The one whose refresh failed, and the one that waits for its first.
    assert {one.slug: one.state for one in seen.outdated} == {"blue-harbor": "never", "north_star": "never"}
    assert [(run.organization_slug, run.error_kind) for run in seen.failures] == [("blue-harbor", "model_failed")]
    hour = datetime.now(UTC) - timedelta(hours=2)
    assert (seen.ended_since(hour, Status.SUCCEEDED), seen.ended_since(hour, Status.FAILED)) == (1, 1)
    assert [(one.slug, one.quantity, one.cents) for one in seen.costliest] == [("acme", 1, Decimal("0.25"))]
    assert seen.in_progress == []
    assert runs.get(console.ledger, going).status is Status.QUEUED
    (slow,) = history.slowest_models(console.ledger, 1)
    assert (slow.model_id, slow.runs, slow.mean_seconds, slow.rows_affected) == ("model.fake.a", 1, 0.25, 5)


def test_the_overview_lists_the_least_fresh_whatever_keeps_them_from_it(
    sample_database: Any, ledger: Database, refreshes: Refreshes
) -> None:
    for slug in ("acme", "blue-harbor", "north_star"):
        refreshes.start(refreshes.request(slug), refreshes.services('build("a")')).wait()
    with sample_database.connect() as connection:
        connection.execute("set session_replication_role = replica")
        for organization_id, days in ((1, 3), (2, 9), (3, 6)):
            connection.execute(
                "update kiket_analytics.runs set finished_at = finished_at - make_interval(days => %s)"
                " where organization_id = %s",
                [days, organization_id],
            )
        connection.execute(
            "update kiket_analytics.analytics_settings set last_run_at = now() - interval '3 days'"
            " where organization_id = 1"
        )
        connection.execute(
            "update kiket_analytics.analytics_settings set quarantined_at = now(), quarantine_reason = 'killed three'"
            " where organization_id = 2"
        )
        connection.execute("update kiket_analytics.analytics_settings set enabled = false where organization_id = 4")
    plans, outdated = overview.fleet(ledger)
    assert [(one.slug, one.state) for one in outdated] == [
        ("blue-harbor", "quarantined"),
        ("north_star", "failing"),
        ("acme", "late"),
    ]
    assert (sum(plan.failing for plan in plans), sum(plan.late for plan in plans)) == (1, 1)
    assert sum(plan.quarantined for plan in plans) == 1


def test_a_run_that_waited_for_days_and_failed_today_is_among_todays_failures(
    sample_database: Any, console: Console, refreshes: Refreshes
) -> None:
    for slug in ("acme", "blue-harbor"):
        refreshes.start(refreshes.request(slug), refreshes.services(FAILING)).wait()
    with sample_database.connect() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update kiket_analytics.runs set queued_at = queued_at - interval '9 days'")
        connection.execute(
            "update kiket_analytics.runs set finished_at = finished_at - interval '2 days' where organization_id = 2"
        )
    seen = overview.look(console.ledger, {}, now=datetime.now(UTC))
    assert [run.organization_slug for run in seen.failures] == ["acme"]


def test_how_late_a_plans_organisations_are_is_told_of_the_latest(
    sample_database: Any, ledger: Database, ops: httpx.Client
) -> None:
    sample_database.execute(
        "insert into public.organizations (id, slug, name, plan, created_at) select number, 'b-' || number, 'B',"
        " 'business', now() from generate_series(60, 62) as number"
    )
    sample_database.execute(
        "insert into kiket_analytics.analytics_settings (organization_id, enabled)"
        " select number, true from generate_series(60, 62) as number"
    )
    # Of business, every six hours: two are late, one is not, and one in quarantine is not refreshed at all.
    for organization_id, hours in ((1, 8), (60, 10), (61, 5), (62, 99), (2, 1), (3, 50)):
        began(sample_database, organization_id, hours)
    sample_database.execute(
        "update kiket_analytics.analytics_settings set quarantined_at = now(), quarantine_reason = 'killed three'"
        " where organization_id = 62"
    )
    sample_database.execute("update kiket_analytics.analytics_settings set enabled = false where organization_id = 4")
    plans, _ = overview.fleet(ledger)
    expected = [
        PlanStanding("business", 4, 4, 1, 0, late=2, failing=0, lag_seconds=pytest.approx(4 * 3600 + 30, abs=25)),
        PlanStanding("enterprise", 1, 1, 0, 0, late=1, failing=0, lag_seconds=pytest.approx(49 * 3600 + 30, abs=25)),
        PlanStanding("starter", 1, 0, 0, 0, late=0, failing=0, lag_seconds=0),
        PlanStanding("team", 1, 1, 0, 0, late=0, failing=0, lag_seconds=0),
    ]
    assert plans == expected
    assert shown(ops)["plans-scroll"] == [
        ["business", "4", "2", "4 h", "0", "0", "1"],
        ["enterprise", "1", "1", "2 d 1 h", "0", "0", "0"],
        ["starter", "0", "0", "0 s", "0", "0", "0"],
        ["team", "1", "0", "0 s", "0", "0", "0"],
    ]


def test_the_least_fresh_are_listed_first_page_by_page(sample_database: Any, ops: httpx.Client) -> None:
    sample_database.execute("delete from kiket_analytics.analytics_settings")
    sample_database.execute(
        "insert into public.organizations (id, slug, name, plan, created_at) select number, 'b-' || number,"
        " 'B ' || number, 'business', now() from generate_series(101, 145) as number"
    )
    sample_database.execute(
        "insert into kiket_analytics.analytics_settings (organization_id, enabled)"
        " select number, true from generate_series(101, 145) as number"
    )
    # Without a success, they are so since their settings were changed.
    with sample_database.connect() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(
            "update kiket_analytics.analytics_settings"
            " set updated_at = now() - make_interval(hours => (organization_id * 7 % 45)::integer, secs => 30)"
        )
    found = [row for page in (1, 2, 3) for row in shown(ops, f"/?outdated={page}")["outdated-scroll"]]
    assert [row[0] for row in found] == [
        f"B {number}" for number in sorted(range(101, 146), key=lambda n: -(n * 7 % 45))
    ]
    assert found[0][1:] == ["business", "never", "none", "6 h", "1 d 20 h"]
    assert "outdated-scroll" not in shown(ops, "/?outdated=4")


def test_runs_in_progress_are_listed_the_longest_first(
    refreshes: Refreshes, console: Console, ops: httpx.Client
) -> None:
    for slug in ("north_star", "acme"):
        claimed(console.ledger, refreshes.request(slug))
    refreshes.request("blue-harbor")  # Nobody has it in hand.
    refreshes.execute(
        "update kiket_analytics.runs set started_at = now() - interval '5 minutes 2 seconds' where organization_id = 1"
    )
    assert [run.organization_slug for run in runs.in_progress(console.ledger, 9)] == ["acme", "north_star"]
    rows = shown(ops)["in-progress-scroll"]
    assert [(row[0], row[2]) for row in rows] == [("acme", "running"), ("north_star", "running")]
    assert rows[0][3].startswith("5 min")


def test_who_costs_most_is_listed_first(sample_database: Any, console: Console) -> None:
    for organization_id, quantity in ((1, 10), (2, 300), (3, 200)):
        use(sample_database, organization_id, "seats", quantity)
    use(sample_database, 1, "exports", 9000)
    use(sample_database, 1, "seats", 9000, datetime.now(UTC) - timedelta(days=40))
    prices = {"seats": Decimal("0.25")}
    with console.serving(prices=prices) as served, session(served, served.console.token()) as client:
        assert shown(client)["costly-scroll"] == [
            ["Blue Harbor Logistics", "300", "75 ¢"],
            ["North★Star Енергія", "200", "50 ¢"],
            ["Acme, Inc.", "10", "2.5 ¢"],
        ]
    seen = overview.look(console.ledger, prices | {"exports": Decimal(1)}, now=datetime.now(UTC)).costliest
    assert [(one.slug, one.cents) for one in seen] == [
        ("acme", Decimal("9002.5")),
        ("blue-harbor", 75),
        ("north_star", 50),
    ]


def test_queues_are_listed_with_what_waits_in_them(console: Console) -> None:
    depths = {"kiket.analytics.refresh": 1234, "kiket.analytics.refresh.dead": 2}
    with console.serving(depths=lambda: depths) as served, session(served, served.console.token()) as client:
        assert shown(client)["queues-scroll"] == [
            ["kiket.analytics.refresh", "1,234"],
            ["kiket.analytics.refresh.deaddead letters", "2"],
        ]


def test_the_slowest_models_of_an_organisation_are_listed_first(
    sample_database: Any, refreshes: Refreshes, console: Console, ops: httpx.Client
) -> None:
    for seconds in ({"a": 1, "b": 2, "c": 90}, {"a": 3, "b": 5, "c": 0.5}, {"b": 100}):
        run_id = refreshes.request()
        failing = seconds.keys() == {"b"}
        refreshes.start(run_id, refreshes.services(FAILING if failing else 'build("a")')).wait()
        for name, took in seconds.items():
            put_model(sample_database, run_id, f"model.fake.{name}", took)
    slow = history.slowest_models(console.ledger, 1)
    assert [(one.model_id, one.runs, one.mean_seconds, one.most_seconds) for one in slow] == [
        ("model.fake.c", 2, 45.25, 90),
        ("model.fake.b", 2, 3.5, 5),
        ("model.fake.a", 2, 2, 3),
    ]
    assert [row[:3] for row in shown(ops, "/organizations/acme")["slowest-scroll"]] == [
        ["c", "45.2 s", "1 min 30 s"],
        ["b", "3.5 s", "5.0 s"],
        ["a", "2.0 s", "3.0 s"],
    ]


def put_model(database: Any, run_id: UUID, model_id: str, seconds: float) -> None:
    database.execute(
        "insert into kiket_analytics.run_models (run_id, model_id, status, duration_seconds)"
        " values (%s, %s, 'success', %s)"
        " on conflict (run_id, model_id) do update set duration_seconds = excluded.duration_seconds",
        *(run_id, model_id, seconds),
    )


def test_an_organisations_usage_and_cost_are_on_its_page_by_day(sample_database: Any, console: Console) -> None:
    now = datetime.now(UTC)
    use(sample_database, 1, "seats", 30, now)
    use(sample_database, 1, "seats", 10, now - timedelta(days=29))
    use(sample_database, 1, "seats", 500, now - timedelta(days=30))
    use(sample_database, 1, "exports", 7, now - timedelta(days=1))
    use(sample_database, 2, "seats", 900, now)
    prices = {"seats": Decimal("0.25")}
    with console.serving(prices=prices) as served, session(served, served.console.token(1)) as client:
        found = shown(client, "/organizations/acme")
    assert found["totals-scroll"] == [["seats", "40", "unit", "10 ¢"], ["exports", "7", "unit", "–"]]
    by_day = {row[0]: row[1:] for row in found["usage-figures"]}
    assert len(by_day) == 30
    assert {day: figures for day, figures in by_day.items() if figures != ["0", "0"]} == {
        day_of(now): ["30", "0"],
        day_of(now - timedelta(days=1)): ["0", "7"],
        day_of(now - timedelta(days=29)): ["10", "0"],
    }


def day_of(moment: datetime) -> str:
    return date.isoformat(moment.date())


def test_an_organisations_runs_are_on_its_page_with_outcome_and_duration(
    refreshes: Refreshes, ops: httpx.Client
) -> None:
    ids = [refreshes.request()]
    refreshes.start(ids[0], refreshes.services('build("a")')).wait()
    ids.append(refreshes.request())
    refreshes.start(ids[1], refreshes.services(FAILING)).wait()
    ids.append(refreshes.request())
    refreshes.request("blue-harbor")
    with psycopg.connect(refreshes.url) as connection:
        connection.execute("set session_replication_role = replica")
        for run_id, seconds in ((ids[0], 65), (ids[1], 12)):
            connection.execute(
                "update kiket_analytics.runs set finished_at = started_at + make_interval(secs => %s)"
                " where run_id = %s",
                [seconds, run_id],
            )
    rows = shown(ops, "/organizations/acme")["history-figures"]
    assert [row[1:] for row in rows] == [
        ["queued", "–", f"…{str(ids[2])[-12:]}", ""],
        ["failed", "12.0 s", f"…{str(ids[1])[-12:]}", "model_failed"],
        ["succeeded", "1 min 5 s", f"…{str(ids[0])[-12:]}", ""],
    ]
