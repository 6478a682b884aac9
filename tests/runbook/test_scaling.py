"""More workers and fewer, in the middle of a backlog."""

import signal

from tests.faults.site import DBT, Site
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
