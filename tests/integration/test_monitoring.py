"""The server of metrics and probes: what it answers, what it refuses, and that nobody who hangs holds it up."""

import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from kiket_worker import events
from kiket_worker.artifacts.directory import DirectoryStore
from kiket_worker.errors import InvalidSetting, PostgresUnreachable
from kiket_worker.ledger.database import Database
from kiket_worker.monitoring.endpoint import Monitoring
from kiket_worker.monitoring.question import Question
from kiket_worker.monitoring.server import MonitoringServer
from kiket_worker.monitoring.vitals import Vitals
from kiket_worker.queue.broker import MemoryBroker
from kiket_worker.queue.pulling import MemoryConsumer
from tests.support.dbt_scripts import until
from tests.support.queues import MEMORY_URL, Queues
from tests.support.scrapes import asked, samples


@contextmanager
def serving(
    vitals: Vitals | None = None, services: dict[str, Question[Any]] | None = None, host: str = "127.0.0.1"
) -> Iterator[str]:
    """A server, and its URL."""
    started: list[str] = []
    end = events.listen(lambda event, fields: started.append(fields["address"]))
    server = MonitoringServer(f"{host}:0", CollectorRegistry(), vitals or Vitals(), services or {})
    server.start()
    end()
    yield f"http://{started[0]}"
    server.stop()


def test_only_three_paths_are_answered_and_only_read() -> None:
    with serving() as url:
        assert asked(f"{url}/healthz") == (200, {"alive": True})
        assert asked(f"{url}/readyz") == (200, {"ready": True, "services": {}})
        assert asked(f"{url}/metrics?x=1")[0] == 200
        for path in ("/", "/metrics/", "/healthz2", "/../etc/passwd"):
            assert asked(f"{url}{path}") == (404, "/metrics, /healthz, /readyz\n")
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert asked(f"{url}/metrics", method=method)[0] == 501
        assert asked(f"{url}/healthz", method="HEAD") == (200, "")


def test_openmetrics_is_spoken_to_who_asks_for_it() -> None:
    wanted = {"Accept": "application/openmetrics-text; version=1.0.0"}
    with serving() as url:
        answer = urllib.request.urlopen(urllib.request.Request(f"{url}/metrics", headers=wanted), timeout=30)
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert answer.read().endswith(b"# EOF\n")


def test_ipv6_is_served_where_it_is_named() -> None:
    with serving(host="[::1]") as url:
        assert url.startswith("http://[::1]:")
        assert asked(f"{url}/healthz")[0] == 200


def test_a_part_that_has_died_is_named_and_the_process_is_not_healthy() -> None:
    vitals = Vitals()
    vitals.watch("tick loop", lambda: True)
    vitals.watch("consumers", lambda: False)
    with serving(vitals) as url:
        assert asked(f"{url}/healthz") == (503, {"alive": False, "dead": ["consumers"]})


def test_a_fault_of_our_own_is_no_good_news_and_repeats_no_words() -> None:
    vitals = Vitals()

    def fail() -> bool:
        raise ValueError("hunter2")

    vitals.watch("consumers", fail)
    with serving(vitals) as url:
        assert asked(f"{url}/healthz") == (500, "ValueError\n")


def test_a_service_that_is_missing_is_named_with_the_reason_in_one_line() -> None:
    def refuse() -> None:
        raise PostgresUnreachable("Postgres cannot be reached:\nconnection refused at row 7")

    services = {"postgres": Question(refuse), "artifacts": Question(lambda: None)}
    with serving(services=services) as url:
        assert asked(f"{url}/readyz") == (
            503,
            {
                "ready": False,
                "services": {
                    "postgres": {"ready": False, "reason": "Postgres cannot be reached:"},
                    "artifacts": {"ready": True},
                },
            },
        )
        assert asked(f"{url}/healthz")[0] == 200, "what it depends on does not make it dead"


def test_services_are_asked_side_by_side() -> None:
    all_asked = threading.Barrier(4)  # None answers before each of them was asked.
    services = {name: Question(lambda: all_asked.wait(20), patience_seconds=20) for name in ("a", "b", "c", "d")}
    with serving(services=services) as url:
        assert asked(f"{url}/readyz")[0] == 200


def test_a_service_that_hangs_is_not_waited_for() -> None:
    released = threading.Event()
    with serving(services={"postgres": Question(released.wait, patience_seconds=0.1)}) as url:
        code, document = asked(f"{url}/readyz")
        assert code == 503
        assert document["services"]["postgres"]["reason"] == "no answer within 0.1 seconds"
    released.set()


def test_a_client_that_says_nothing_holds_up_neither_others_nor_the_end() -> None:
    with serving() as url:
        host, _, port = url.removeprefix("http://").partition(":")
        silent = [socket.create_connection((host, int(port))) for _ in range(20)]
        silent[0].sendall(b"GET /metrics HT")
        assert asked(f"{url}/healthz")[0] == 200
    for one in silent:
        one.close()


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "no.such.host.invalid:0", "192.0.2.1:0"])
def test_an_address_that_cannot_be_had_is_a_wrong_setting(address: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = address.format(port=taken.getsockname()[1])
        with pytest.raises(InvalidSetting, match=rf"KIKET_METRICS_ADDRESS: {wanted} cannot be listened at: "):
            MonitoringServer(wanted, CollectorRegistry(), Vitals(), {})


def test_a_process_that_ticks_and_refreshes_tells_of_both_in_prometheus_own_format(
    ledger: Database, sample_database: Any, tmp_path: Any
) -> None:
    queues = Queues(MEMORY_URL)
    queues.send(b"waits")
    heard: list[str] = []
    end = events.listen(lambda event, fields: heard.append(fields.get("address", "")))
    with Monitoring("127.0.0.1:0", ledger, queues.broker) as monitoring:
        url = f"http://{heard[0]}"
        monitoring.add_ticker(lambda: True)
        monitoring.add_worker(lambda: True, lambda: 1, concurrency=4, store=DirectoryStore(tmp_path))
        events.RUN_FAILED.log(organization="acme", error_kind="model_failed")
        found = samples(url)
        assert asked(f"{url}/readyz") == (
            200,
            {
                "ready": True,
                "services": {name: {"ready": True} for name in ("postgres", "rabbitmq", "artifacts")},
            },
        )
    end()
    assert found["kiket_ledger_up"] == found["kiket_queue_up"] == 1
    assert found["kiket_due_organizations"] == 4
    assert found['kiket_queue_messages{queue="kiket.analytics.refresh"}'] == 1
    assert (found["kiket_worker_refreshes"], found["kiket_worker_concurrency"]) == (1, 4)
    assert found['kiket_runs_total{error_kind="model_failed",outcome="failed"}'] == 1
    assert found["process_resident_memory_bytes"] > 0


def test_many_scrapers_cost_one_look_at_the_ledger(ledger: Database, sample_database: Any) -> None:
    heard: list[str] = []
    end = events.listen(lambda event, fields: heard.append(fields.get("address", "")))
    with Monitoring("127.0.0.1:0", ledger, MemoryBroker()) as monitoring:
        monitoring.add_ticker(lambda: True)
        first = samples(f"http://{heard[0]}")["kiket_due_organizations"]
        sample_database.execute("update kiket_analytics.analytics_settings set enabled = false")
        assert samples(f"http://{heard[0]}")["kiket_due_organizations"] == first == 4
    end()


@pytest.mark.parametrize("command", ["worker", "ticker"])
def test_a_process_that_nobody_monitors_does_not_load_the_library(command: str) -> None:
    look = f"import sys, kiket_worker.cli.{command}; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], check=False, timeout=60).returncode == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_consumers_do_not_live_when_one_of_their_threads_has_died(monkeypatch: pytest.MonkeyPatch) -> None:
    queues = Queues(MEMORY_URL)
    with queues.consumed_by(lambda _: None) as consumers:
        assert consumers.lives()

        def die(_: MemoryConsumer) -> None:
            raise SystemExit  # Ends a thread, and no handler of errors sees it.

        monkeypatch.setattr(MemoryConsumer, "_fetch", die)
        until(lambda: not consumers.lives(), "a thread has died")
    assert consumers.lives(), "threads that were to end are nobody's loss"
