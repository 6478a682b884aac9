"""RabbitMQ restarts, or is killed and loses everything, and the ticker dies while it publishes."""

import shutil
from pathlib import Path

import pytest

from kiket_worker.dev import rabbitmq
from tests.faults.proxy import Proxy
from tests.faults.site import DBT, Site
from tests.support.dbt_scripts import until


@pytest.mark.parametrize("arrives", [False, True], ids=["and the message is lost", "and the message arrives"])
def test_the_ticker_is_killed_between_insert_and_publish(
    site: Site, rabbitmq_proxy: Proxy, proxied_rabbitmq: dict[str, str], arrives: bool
) -> None:
    ticker = site.start("ticker", **proxied_rabbitmq)
    ticker.until_event("ticker.ticked")
    rabbitmq_proxy.hang()
    site.execute("update kiket_analytics.analytics_settings set last_run_at = null")

    def publishes() -> bool:
        return bool(
            site.rows(
                "select from pg_stat_activity where datname = current_database() and state = 'idle in transaction'"
                " and query like %s",
                "-- The runs whose message%",
            )
        )

    until(lambda: len(site.rows("select from kiket_analytics.runs")) == 4, "the due ones are queued")
    until(publishes, "the ticker publishes")
    ticker.kill()
    if not arrives:
        rabbitmq_proxy.cut()
    rabbitmq_proxy.restore()
    assert not site.rows("select from kiket_analytics.runs where published_at is not null")

    site.start_cluster(workers=1)
    slugs = [row["organization_slug"] for row in site.rows("select organization_slug from kiket_analytics.runs")]
    assert len(set(slugs)) == 4
    site.until_succeeded(*slugs)
    assert len(site.rows("select from kiket_analytics.runs")) == len(site.writers()) == 4
    site.audit()


@pytest.mark.parametrize("wiped", [False, True], ids=["restarted", "killed and wiped"])
def test_rabbitmq_goes_away_in_mid_run(site: Site, rabbitmq_folder: Path, wiped: bool) -> None:
    """Two runs are being built, one waits in a queue that is lost, and one is asked for while RabbitMQ is away."""
    (worker,) = site.start_cluster(workers=1, KIKET_REPUBLISH_AFTER_SECONDS="3")
    with site.held(DBT) as held:
        site.ask("acme")
        site.ask("blue-harbor")
        held.until_reached(2)
        site.execute(
            "update kiket_analytics.analytics_settings set last_run_at = null where organization_id ="
            " (select id from public.organizations where slug = 'north_star')"
        )
        until(
            lambda: site.rows(
                "select from kiket_analytics.runs where organization_slug = 'north_star' and published_at is not null"
            ),
            "a message waits in the queue",
        )
        if wiped:
            rabbitmq.kill(rabbitmq_folder)
            shutil.rmtree(rabbitmq_folder / "data")
        else:
            rabbitmq.stop(rabbitmq_folder)
        site.execute(
            "update kiket_analytics.analytics_settings set last_run_at = null where organization_id ="
            " (select id from public.organizations where slug = 'quiet-orchard')"
        )
        site.services[0].until_event("ticker.failed")
        held.open()
        site.until_succeeded("acme", "blue-harbor")
        rabbitmq.start(rabbitmq_folder)
    site.until_succeeded("acme", "blue-harbor", "north_star", "quiet-orchard")
    assert len(site.rows("select from kiket_analytics.runs")) == len(site.attempts()) == 4
    assert site.usage() == 8
    assert not worker.has_ended()
    site.audit()
