"""A worker that is stopped or cut off from Postgres for longer than its lease ends its dbt and reports nothing."""

import signal

import psutil
import pytest

from kiket_worker.contract import QUEUE_REQUESTS
from kiket_worker.dev.service import alive
from tests.faults.proxy import Proxy
from tests.faults.site import DBT, LEASE_SECONDS, Service, Site
from tests.support.dbt_scripts import until
from tests.support.queues import ready


def works_on_alone(site: Site, worker: Service) -> None:
    """Nobody else is left, and it handles a message."""
    for other in site.services[1:]:
        if other is not worker:
            other.send(signal.SIGTERM)
            other.process.wait(20)
    site.ask("blue-harbor")
    site.until_succeeded("acme", "blue-harbor")


def is_published(site: Site) -> bool:
    """Whether the ticker has said that a run's lease is over."""
    return bool(
        site.rows(
            "select from kiket_analytics.runs as run join kiket_analytics.leases as lease on lease.run_id = run.run_id"
            " where run.published_at >= lease.expires_at"
        )
    )


def test_stopped_past_its_lease_while_dbt_runs(site: Site) -> None:
    site.start_cluster()
    with site.held(DBT) as held:
        site.ask()
        held.until_reached()
        first = site.claimant()
        dbt = psutil.Process(site.writers()[0]["process_id"])
        first.send(signal.SIGSTOP)
        site.until(lambda: len(site.writers()) == 2, "another worker takes over and its dbt writes")
        assert not alive(dbt)
        held.open()
        site.until_succeeded()
    (taken_over,) = [event for service in site.services for event in service.events("run.taken_over")]
    assert taken_over["sessions_ended"] == 1
    ended = site.rows("select * from kiket_analytics.runs"), site.attempts(), site.usage()

    first.send(signal.SIGCONT)
    first.until_event("lease.lost")
    works_on_alone(site, first)
    assert not [event for event in first.events("run.succeeded") if event["organization"] == "acme"]
    acme = site.rows("select * from kiket_analytics.runs where organization_slug = 'acme'")
    assert (acme, site.attempts()[:2], site.usage() - 2) == ended
    site.audit()


def test_stopped_in_the_middle_of_a_transaction(site: Site) -> None:
    """Its session holds the run's row: Postgres itself has to end it, or nobody could ever take the run over."""
    site.start_cluster()
    with site.held("mark_built") as held:
        site.ask()
        held.until_reached()
        first = site.claimant()
        first.send(signal.SIGSTOP)
        held.open()
        site.until_succeeded()
    first.send(signal.SIGCONT)
    first.until_event("lease.lost")
    works_on_alone(site, first)
    assert [row["outcome"] for row in site.attempts()] == ["crashed", "succeeded", "succeeded"]
    site.audit()


@pytest.mark.parametrize("how", ["hang", "cut"])
def test_partitioned_from_postgres_in_mid_run(
    site: Site, postgres_proxy: Proxy, proxied_database: dict[str, str], how: str
) -> None:
    site.start("ticker")
    first = site.start("worker", **proxied_database)
    first.until_event("worker.started")
    with site.held(DBT) as held:
        site.ask()
        held.until_reached()
        dbt = psutil.Process(site.writers()[0]["process_id"])
        second = site.start("worker")
        second.until_event("worker.started")
        if how == "hang":
            second.send(signal.SIGSTOP)
            postgres_proxy.hang()
        else:
            postgres_proxy.refuse()
        until(lambda: not alive(dbt), "the guard ends dbt", seconds=LEASE_SECONDS + 1)
        if how == "hang":
            # The worker that is cut off takes the message that the run waits for somebody, and can do nothing with it.
            site.until(lambda: is_published(site) and ready(site.rabbitmq_url, QUEUE_REQUESTS) == 0, "it takes it")
            second.send(signal.SIGCONT)
        site.until(lambda: len(site.writers()) == 2, "another worker takes over and its dbt writes")
        held.open()
        site.until_succeeded()
    postgres_proxy.restore()
    first.until_event("lease.lost")
    works_on_alone(site, first)
    assert [row["outcome"] for row in site.attempts()] == ["crashed", "succeeded", "succeeded"]
    assert not [event for event in first.events("run.succeeded") if event["organization"] == "acme"]
    site.audit()
