"""Ticker and worker as processes of their own, with RabbitMQ between them."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pika
import psutil
import pytest

from kiket_worker.contract import QUEUE_DEAD, QUEUE_REQUESTS

ORGANIZATIONS = {"acme", "blue-harbor", "north_star", "quiet-orchard"}


def publish(url: str, body: bytes) -> None:
    """What any AMQP client does: the default exchange, and the queue's name as routing key."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        connection.channel().basic_publish("", QUEUE_REQUESTS, body)


def test_due_organisations_are_refreshed_by_separate_processes(
    cluster: Any, sample_database: Any, until: Callable[..., Any]
) -> None:
    worker, ticker = cluster.start("worker", "--concurrency", 2), cluster.start("ticker")

    def succeeded() -> bool:
        return {
            row["organization_slug"]
            for row in sample_database.rows(
                "select organization_slug from kiket_analytics.runs where status = 'succeeded'"
            )
        } == ORGANIZATIONS

    until(succeeded, "every organisation is refreshed")
    ticks = [event for event in cluster.log("ticker") if event["event"] == "ticker.ticked"]
    assert ticks[0]["queued"] == len(ORGANIZATIONS)
    assert len(sample_database.rows("select from kiket_analytics.runs")) == len(ORGANIZATIONS)
    assert len(sample_database.rows("select from kiket_analytics.usage_events")) == 2 * len(ORGANIZATIONS)

    for process in (worker, ticker):
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert cluster.log("worker")[-1]["event"] == "worker.stopped"


def test_a_message_from_a_foreign_client_is_a_request(
    cluster: Any, sample_database: Any, rabbitmq_url: str, until: Callable[..., Any]
) -> None:
    cluster.start("worker")
    until(lambda: any(event["event"] == "worker.started" for event in cluster.log("worker")), "the worker runs")
    publish(rabbitmq_url, b'{"version": 1, "organization": "nobody"}')
    publish(rabbitmq_url, b"not json")
    message = {"version": 1, "organization": "acme", "requested_by": "user:42", "colour": "unknown fields are ignored"}
    publish(rabbitmq_url, json.dumps(message).encode())
    (run,) = until(
        lambda: sample_database.rows("select * from kiket_analytics.runs where status = 'succeeded'"), "it is refreshed"
    )
    assert (run["organization_slug"], run["reason"], run["requested_by"]) == ("acme", "manual", "user:42")

    rejected = [event for event in cluster.log("worker") if event["event"] == "refresh.rejected"]
    assert {event["error_kind"] for event in rejected} == {"organization_unknown", "message_invalid"}
    with pika.BlockingConnection(pika.URLParameters(rabbitmq_url)) as connection:
        declared = connection.channel().queue_declare(QUEUE_DEAD, passive=True)
        assert declared.method.message_count == 2


def test_a_refresh_asked_for_on_the_command_line_is_done_by_the_worker(cluster: Any) -> None:
    cluster.start("worker")
    result = cluster.run("refresh", "blue-harbor", "--wait", "--json")
    assert result.code == 0, result.err
    assert result.document["status"] == "succeeded"


def test_the_first_signal_lets_a_refresh_finish_and_the_second_hands_it_back(
    cluster: Any, sample_database: Any, tmp_path: Path, until: Callable[..., Any]
) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    worker = cluster.start("worker")
    cluster.run("refresh", "acme")

    def children() -> list[psutil.Process]:
        return psutil.Process(worker.pid).children(recursive=True)

    child = until(lambda: children() and children()[0], "dbt runs")
    worker.send_signal(signal.SIGTERM)
    with pytest.raises(psutil.TimeoutExpired):
        psutil.Process(worker.pid).wait(1)
    assert child.is_running()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert not child.is_running()

    assert cluster.log("worker")[-2]["event"] == "run.handed_back"
    hold.unlink()
    cluster.start("worker")
    cluster.start("ticker")
    until(
        lambda: sample_database.rows(
            "select from kiket_analytics.runs where organization_slug = 'acme' and status = 'succeeded' and attempt = 1"
        ),
        "another worker takes it, and the first one's attempt does not count",
    )


def test_ticker_once_publishes_and_ends(cluster: Any, sample_database: Any) -> None:
    assert cluster.run("ticker", "--once").code == 0
    rows = sample_database.rows("select published_at from kiket_analytics.runs")
    assert len(rows) == len(ORGANIZATIONS)
    assert all(row["published_at"] for row in rows)
    assert cluster.run("ticker", "--once").code == 0
    assert len(sample_database.rows("select from kiket_analytics.runs")) == len(ORGANIZATIONS)
