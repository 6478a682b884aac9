"""What processes tell of themselves while the services that they need hang, refuse and come back."""

import socket
from typing import Any
from urllib.parse import urlsplit

from tests.faults.proxy import Proxy
from tests.faults.site import DBT, Service, Site
from tests.support.dbt_scripts import until
from tests.support.scrapes import asked, samples

MONITORED = {"KIKET_METRICS_ADDRESS": "127.0.0.1:0"}


def url_of(service: Service) -> str:
    return f"http://{service.until_event('monitoring.started')['address']}"


def missing(url: str) -> dict[str, str]:
    """The services that are not ready by name, each with its reason."""
    _, document = asked(f"{url}/readyz")
    return {name: one["reason"] for name, one in document["services"].items() if not one["ready"]}


def test_each_service_that_goes_away_is_named_while_the_process_lives_and_answers(
    site: Site,
    postgres_proxy: Proxy,
    proxied_database: dict[str, str],
    rabbitmq_proxy: Proxy,
    proxied_rabbitmq: dict[str, str],
    s3_proxy: Proxy,
) -> None:
    variables = MONITORED | proxied_database
    ticker, worker = site.start("ticker", **variables, **proxied_rabbitmq), site.start("worker", **variables)
    worker.until_event("worker.started")
    urls = url_of(ticker), url_of(worker)
    for url in urls:
        assert asked(f"{url}/healthz") == (200, {"alive": True})
        until(lambda url=url: asked(f"{url}/readyz")[0] == 200, "everything is there")
    assert samples(urls[0])["kiket_ledger_up"] == samples(urls[0])["kiket_queue_up"] == 1

    # A scraper that hangs, all the while.
    address = urlsplit(urls[1])
    with_silence = (address.hostname or "", address.port or 0)
    silent = [socket.create_connection(with_silence)]

    s3_proxy.refuse()
    until(lambda: "artifacts" in missing(urls[1]), "the worker misses the store")
    assert "artifacts" not in asked(f"{urls[0]}/readyz")[1]["services"], "the ticker does not need it"
    s3_proxy.restore()

    rabbitmq_proxy.hang()
    until(lambda: "rabbitmq" in missing(urls[0]), "the ticker misses RabbitMQ")
    until(lambda: samples(urls[0])["kiket_queue_up"] == 0, "the scrape says so")
    rabbitmq_proxy.cut()
    rabbitmq_proxy.restore()

    postgres_proxy.hang()
    for url in urls:
        # Why, either the probe's patience says or Postgres' client, whose time-out is as long.
        until(lambda url=url: "postgres" in missing(url), "Postgres is missed")
        assert asked(f"{url}/healthz") == (200, {"alive": True})
    until(lambda: samples(urls[0])["kiket_ledger_up"] == 0, "the scrape says so")
    found = samples(urls[0])
    assert "kiket_due_organizations" not in found
    assert 'kiket_events_total{event="ticker.ticked"}' in found
    postgres_proxy.cut()
    postgres_proxy.restore()
    for url in urls:
        until(lambda url=url: asked(f"{url}/readyz")[0] == 200, "everything is there again", seconds=60)
    # The first was left after some seconds.
    silent.append(socket.create_connection(with_silence))
    silent[1].sendall(b"GET /metrics HTTP/1.1\r\n")
    site.stop()
    for client in silent:
        client.close()


def test_a_worker_tells_what_it_has_in_hand_and_counts_what_it_did(site: Site) -> None:
    worker = site.start("worker", **MONITORED)
    worker.until_event("worker.started")
    url = url_of(worker)
    with site.held(DBT) as held:
        site.ask()
        held.until_reached()
        busy = samples(url)
        held.open()
    site.until_succeeded()
    worker.until_event("run.succeeded")
    idle = samples(url)
    assert (busy["kiket_worker_refreshes"], busy["kiket_worker_concurrency"]) == (1, 2)
    until(lambda: samples(url)["kiket_worker_refreshes"] == 0, "nothing is in hand")
    assert idle['kiket_runs_total{error_kind="",outcome="succeeded"}'] == 1
    assert idle['kiket_run_duration_seconds_count{outcome="succeeded"}'] == 1
    assert idle["kiket_artifact_bytes_total"] == worker.until_event("run.archived")["bytes"]


def test_an_address_that_is_taken_is_wrong_use_and_nothing_is_begun(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        services: list[Any] = [
            site.start(command, KIKET_METRICS_ADDRESS=f"127.0.0.1:{port}") for command in ("worker", "ticker")
        ]
        for service in services:
            assert service.process.wait(30) == 2
            assert service.log.read_text() == (
                f"kiket-worker: KIKET_METRICS_ADDRESS: 127.0.0.1:{port} cannot be listened at: Address already in use; "
                "name another port, or an address of this machine\n"
            )
