"""`kiket-worker dead-letters` as an operator uses it."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pika

from kiket_worker.contract import QUEUE_DEAD, QUEUE_REQUESTS

HOSTILE = b"\x1b]0;gone\x07 caf\xff\n" + b"x" * 5000


def publish(url: str, *bodies: bytes) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        for body in bodies:
            connection.channel().basic_publish("", QUEUE_REQUESTS, body)


def refused(cluster: Any, count: int, until: Callable[..., Any]) -> list[dict[str, Any]]:
    """The dead letters, when there are so many."""

    def all_there() -> bool:
        with pika.BlockingConnection(pika.URLParameters(cluster.variables["RABBITMQ_URL"])) as connection:
            return bool(connection.channel().queue_declare(QUEUE_DEAD, passive=True).method.message_count == count)

    until(all_there, f"{count} messages are refused")
    result = cluster.run("dead-letters", "list", "--json")
    assert result.code == 0, result.err
    letters: list[dict[str, Any]] = result.document
    assert len(letters) == count
    return letters


def test_refused_messages_are_listed_replayed_and_dropped(
    cluster: Any, sample_database: Any, rabbitmq_url: str, until: Callable[..., Any]
) -> None:
    cluster.start("worker", "--concurrency", 1)
    until(lambda: any(event["event"] == "worker.started" for event in cluster.log("worker")), "the worker runs")
    publish(rabbitmq_url, b'{"version": 1, "organization": "newcomer"}')
    refused(cluster, 1, until)
    publish(rabbitmq_url, HOSTILE)
    letters = refused(cluster, 2, until)
    assert all(letter.keys() == {"id", "reason", "received_at", "body"} for letter in letters)
    assert all(UUID(letter["id"]) and datetime.fromisoformat(letter["received_at"]).tzinfo for letter in letters)
    assert [letter["reason"].partition(":")[0] for letter in letters] == ["message_invalid", "organization_unknown"]
    assert letters[0]["body"] == HOSTILE.decode(errors="replace")

    table = cluster.run("dead-letters", "list")
    assert len(table.out.splitlines()) == 3
    assert "\x1b" not in table.out
    assert "x" * 200 not in table.out

    # Its organisation has come into being meanwhile.
    sample_database.execute("insert into public.organizations values (77, 'newcomer', 'Newcomer', 'team', now())")
    sample_database.execute("insert into kiket_analytics.analytics_settings values (77, true)")
    assert cluster.run("dead-letters", "replay", letters[1]["id"]).out == "replayed: 1\n"
    until(
        lambda: sample_database.rows(
            "select from kiket_analytics.runs where organization_slug = 'newcomer' and status = 'succeeded'"
        ),
        "the replayed request is done",
    )
    assert cluster.run("dead-letters", "drop", letters[0]["id"]).out == "dropped: 1\n"
    assert cluster.run("dead-letters", "list", "--json").document == []


def test_dropping_everything_asks_first(cluster: Any, rabbitmq_url: str, until: Callable[..., Any]) -> None:
    cluster.start("worker", "--concurrency", 1)
    until(lambda: any(event["event"] == "worker.started" for event in cluster.log("worker")), "the worker runs")
    publish(rabbitmq_url, b"1", b"2")
    refused(cluster, 2, until)
    declined = cluster.run("dead-letters", "drop", "--all", typed="n\n")
    assert declined.code == 1
    assert "2 dead letters" in declined.err
    refused(cluster, 2, until)
    assert cluster.run("dead-letters", "drop", "--all", "--yes").out == "dropped: 2\n"
    assert cluster.run("dead-letters", "list", "--json").document == []


def test_what_is_typed_wrong_changes_nothing(cluster: Any) -> None:
    unknown = uuid4()
    for command in ("replay", "drop"):
        cluster.run("dead-letters", command, unknown).refused(2, str(unknown), "dead-letters list")
        cluster.run("dead-letters", command).refused(2, "--all")
        cluster.run("dead-letters", command, unknown, "--all").refused(2, "--all")
        assert cluster.run("dead-letters", command, "seven").code == 2


def test_dead_letters_need_a_rabbitmq_that_answers(installation: Any) -> None:
    commands = [("list",), ("replay", "--all"), ("drop", "--all", "--yes")]
    for command in commands:
        installation.run("dead-letters", *command).refused(2, "memory://", "RabbitMQ")
        unreachable = "amqp://guest:hunter2@127.0.0.1:9/%2F"
        result = installation.run("dead-letters", *command, RABBITMQ_URL=unreachable)
        result.refused(3, "RabbitMQ", "RABBITMQ_URL")
        assert "hunter2" not in result.err


def test_a_queue_with_other_arguments_stops_a_worker_with_the_remedy(cluster: Any, rabbitmq_url: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(rabbitmq_url)) as connection:
        connection.channel().queue_declare(QUEUE_REQUESTS, durable=True)
    try:
        cluster.run("worker").refused(1, QUEUE_REQUESTS, "delete the queue")
    finally:
        with pika.BlockingConnection(pika.URLParameters(rabbitmq_url)) as connection:
            connection.channel().queue_delete(QUEUE_REQUESTS)
