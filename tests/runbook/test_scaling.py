"""More workers and fewer, in the middle of a backlog."""

import signal
from datetime import timedelta

from kiket_worker.ledger import connections
from tests.faults.site import DBT, LEASE_SECONDS, Site
from tests.support.dbt_scripts import until

SLUGS = ("acme", "blue-harbor", "north_star", "quiet-orchard")


def test_workers_are_added_and_ended_in_the_middle_of_a_backlog(site: Site) -> None:
    one_at_a_time = {"KIKET_CONCURRENCY": "1"}
    (first,) = site.start_cluster(workers=1, **one_at_a_time)
    with site.held(DBT) as held:
        for slug in SLUGS:
            site.ask(slug)
        until(lambda: len(site.writers()) == 1, "the first worker has one in hand")
        second = site.start("worker", **one_at_a_time)
        until(lambda: len(site.writers()) == 2, "the second worker has one in hand, and two wait")
        first.send(signal.SIGTERM)
        held.open()
    site.until_succeeded(*SLUGS)
    until(first.has_ended, "the first worker ends in order")
    assert first.process.wait(20) == 0
    assert first.events()[-1]["event"] == "worker.stopped"
    # It has finished what it had, and begun nothing more.
    runs = site.rows("select worker, attempt from kiket_analytics.attempts")
    assert sorted(site.service_of(run["worker"]) is first for run in runs) == [False, False, False, True]
    assert {run["attempt"] for run in runs} == {1}
    assert second.events("run.handed_back") == first.events("run.handed_back") == []
    site.audit()


def test_a_worker_opens_no_more_connections_than_doctor_counts(site: Site) -> None:
    """As many at a time as it may have, until each has renewed its lease, and then all of them to their ends."""
    seen: list[tuple[int, int]] = []

    def look() -> None:
        (sessions,) = site.rows(
            "select count(*) filter (where usename = 'kiket_ledger') as of_the_login,"
            " count(*) filter (where usename ~ '^analytics_org_') as of_organizations"
            " from pg_stat_activity where datname = current_database()"
        )
        seen.append((sessions["of_the_login"], sessions["of_organizations"]))

    worker = site.start("worker", KIKET_CONCURRENCY="3")
    worker.until_event("worker.started")
    with site.held(DBT) as held:
        for slug in SLUGS:
            site.ask(slug)
        until(lambda: (look(), len(site.writers()) == 3)[1], "three are in hand")
        over = site.now() + timedelta(seconds=2 * LEASE_SECONDS)
        renewed = "select count(*) as leases from kiket_analytics.leases where worker is not null and expires_at > %s"
        until(lambda: (look(), site.rows(renewed, over)[0]["leases"] == 3)[1], "each of them is looked after")
        held.open()
    done = "select count(*) = 4 as are_done from kiket_analytics.runs where status = 'succeeded'"
    until(lambda: (look(), site.rows(done)[0]["are_done"])[1], "all are refreshed")
    site.stop()
    of_the_login, of_organizations = connections.of_a_worker(3)
    # A heartbeat for each, and what they share; and one that builds for each.
    assert 3 + 1 < max(login for login, _ in seen) <= of_the_login
    assert 3 <= max(organizations for _, organizations in seen) <= of_organizations
