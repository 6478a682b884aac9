"""The worker is killed at every step of a refresh: another one takes over in time, and nothing doubles."""

import psutil
import pytest

from kiket_worker.dev.service import alive
from tests.faults.proxy import Proxy
from tests.faults.site import DBT, LEASE_SECONDS, Site
from tests.support.dbt_scripts import until


def has_taken_over_in_time(site: Site, killed_at: object) -> None:
    """From the database's clock: the second attempt began within the lease's time and two seconds more."""
    seconds = site.rows(
        "select extract(epoch from max(started_at) - %s::timestamptz)::float as seconds from kiket_analytics.attempts",
        killed_at,
    )[0]["seconds"]
    assert 0 < seconds < LEASE_SECONDS + 2


@pytest.mark.parametrize(
    ("gate", "attempt", "builds"),
    [
        ("the claim's commit", 1, 1),  # Never committed, so it was no attempt.
        ("begin_models", 2, 1),
        ("record_model", 2, None),  # The first dbt may have come to its write, or not.
        (DBT, 2, 2),
        ("mark_built", 2, 2),
        ("mark_archived", 2, 2),
        ("record_usage", 2, 1),  # What is archived is not built again.
        ("the final commit", 2, 1),
    ],
)
def test_killed_before_a_write(site: Site, gate: str, attempt: int, builds: int | None) -> None:
    is_claimed = gate != "the claim's commit"
    workers = site.start_cluster(workers=2 if is_claimed else 1)
    with site.held(gate) as held:
        site.ask()
        held.until_reached()
        victim = site.claimant() if is_claimed else workers[0]  # An open claim names nobody yet.
        killed_at = site.now()
        victim.kill()
        until(lambda: not site.processes(), "the dead worker's dbt ends", seconds=2)
        if gate == DBT:
            # The first dbt's session waits in the gate still: nobody may write until somebody has ended it.
            until(lambda: len(site.writers()) == 2, "the second dbt writes")
        held.open()
        if not is_claimed:
            site.start("worker")
        site.until_succeeded()
    if attempt == 2:
        has_taken_over_in_time(site, killed_at)
    (run,) = site.rows("select * from kiket_analytics.runs")
    assert (run["attempt"], run["crashes"]) == (attempt, attempt - 1)
    assert [row["outcome"] for row in site.attempts()] == ["crashed", "succeeded"][2 - attempt :]
    if builds is not None:
        assert len(site.writers()) == builds
    site.audit()


def test_killed_in_the_upload(site: Site, s3_proxy: Proxy) -> None:
    site.start_cluster()
    s3_proxy.hang()
    site.ask()
    until(lambda: site.rows("select from kiket_analytics.runs where status = 'built'"), "dbt has built")
    killed_at = site.now()
    site.claimant().kill()
    s3_proxy.cut()
    s3_proxy.restore()
    site.until_succeeded()
    has_taken_over_in_time(site, killed_at)
    assert [row["outcome"] for row in site.attempts()] == ["crashed", "succeeded"]
    site.audit()


def test_killed_between_the_final_commit_and_the_acknowledgement(
    site: Site, rabbitmq_proxy: Proxy, proxied_rabbitmq: dict[str, str]
) -> None:
    (first,) = site.start_cluster(workers=1, **proxied_rabbitmq)
    with site.held("the final commit") as held:
        site.ask()
        held.until_reached()
        rabbitmq_proxy.hang()
        held.open()
        site.until_succeeded()
        first.until_event("run.succeeded")
    first.kill()
    rabbitmq_proxy.cut()
    rabbitmq_proxy.restore()
    second = site.start("worker")
    second.until_event("worker.started")
    site.ask("blue-harbor")  # Behind the first message, which RabbitMQ delivers again.
    site.until_succeeded("acme", "blue-harbor")
    assert len(site.rows("select from kiket_analytics.runs")) == 2
    assert [row["outcome"] for row in site.attempts()] == ["succeeded", "succeeded"]
    assert not second.events("run.taken_over")
    site.audit()


def test_a_dbt_ends_with_its_worker_and_with_its_guard(site: Site) -> None:
    (worker,) = site.start_cluster(workers=1)
    with site.held(DBT) as held:
        site.ask()
        held.until_reached()
        (guard,) = psutil.Process(worker.pid).children()
        (dbt,) = guard.children()
        guard.kill()
        until(lambda: not alive(dbt), "dbt ends with its guard", seconds=2)
        until(lambda: len(site.writers()) == 2, "the attempt is tried again")
        assert [row["outcome"] for row in site.attempts()] == ["retried", None]

        (guard,) = psutil.Process(worker.pid).children()
        worker.kill()
        until(lambda: not site.processes(), "guard and dbt end", seconds=2)
        site.start("worker")
        until(lambda: len(site.writers()) == 3, "another worker tries it")
        held.open()
        site.until_succeeded()
    assert [row["outcome"] for row in site.attempts()] == ["retried", "crashed", "succeeded"]
    site.audit()
