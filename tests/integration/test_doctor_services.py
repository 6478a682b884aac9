"""Doctor on the services around: each fault is made real, found, and gone by its remedy."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import boto3
import pika
import pytest

from kiket_worker.artifacts.store import Store, open_store
from kiket_worker.contract import QUEUE_DEAD, QUEUE_REQUESTS, QUEUE_SCHEDULED
from kiket_worker.dev import rabbitmq
from kiket_worker.doctor.capacity import examine_capacity
from kiket_worker.doctor.finding import Finding, Severity
from kiket_worker.doctor.services import examine_services, examine_store
from kiket_worker.errors import ArtifactsAccessDenied
from kiket_worker.ledger import claims, outbox, runs
from kiket_worker.ledger.runs import Request
from kiket_worker.queue.broker import open_broker
from kiket_worker.tenants.schema import schema_name
from tests.support.installations import Installation
from tests.support.tenants import settings_of


def by_kind(found: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.kind: finding for finding in found}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store((tmp_path / "artifacts").as_uri())


@pytest.fixture
def examine(installation: Installation, store: Store) -> Callable[..., dict[str, Finding]]:
    def look(now: Callable[[], datetime] | None = None, **variables: object) -> dict[str, Finding]:
        settings = settings_of(installation.ledger_url, **variables)
        clock = {"now": now} if now else {}
        return by_kind(examine_services(settings, installation.ledger, store, **clock))

    return look


@pytest.fixture
def queues(rabbitmq_url: str) -> Iterator[Any]:
    """A channel to a RabbitMQ without the product's queues."""
    with pika.BlockingConnection(pika.URLParameters(rabbitmq_url)) as connection:
        names = (QUEUE_REQUESTS, QUEUE_SCHEDULED, QUEUE_DEAD)
        for name in names:
            connection.channel().queue_delete(name)
        yield connection.channel()
        for name in names:
            connection.channel().queue_delete(name)


def test_nothing_is_wrong_with_services_that_are_as_they_should_be(
    examine: Callable[..., dict[str, Finding]], installation: Installation, queues: Any, rabbitmq_url: str
) -> None:
    assert examine(RABBITMQ_URL=rabbitmq_url) == {}, "no queue is there yet, and workers declare them"
    open_broker(settings_of(installation.ledger_url, RABBITMQ_URL=rabbitmq_url)).close()
    assert examine(RABBITMQ_URL=rabbitmq_url) == {}


@pytest.mark.parametrize("name", [QUEUE_REQUESTS, QUEUE_SCHEDULED, QUEUE_DEAD])
def test_a_queue_with_other_arguments_is_named(
    examine: Callable[..., dict[str, Finding]], queues: Any, rabbitmq_url: str, name: str
) -> None:
    queues.queue_declare(name, durable=True)
    found = examine(RABBITMQ_URL=rabbitmq_url)
    assert name in found["queue_mismatch"].message
    assert "delete the queue" in found["queue_mismatch"].remedy
    queues.queue_delete(name)
    assert examine(RABBITMQ_URL=rabbitmq_url) == {}


def rabbitmqctl(folder: Path, *arguments: str) -> None:
    """The command on the node of a folder."""
    ports = json.loads((folder / "ports.json").read_text())
    subprocess.run(
        [Path(rabbitmq.executable()).with_name("rabbitmqctl"), "--node", "kiket@localhost", *arguments],
        env={"HOME": str(folder), "PATH": os.environ["PATH"], "ERL_EPMD_PORT": str(ports["epmd"])},
        check=True,
        capture_output=True,
    )


def test_queues_that_the_login_may_not_use_are_told_of_and_the_remedy_gives_the_rights(
    examine: Callable[..., dict[str, Finding]],
    installation: Installation,
    queues: Any,
    rabbitmq_url: str,
    rabbitmq_folder: Path,
) -> None:
    address = urlsplit(rabbitmq_url)
    limited = address._replace(netloc=f"limited:hunter2@{address.hostname}:{address.port}").geturl()
    open_broker(settings_of(installation.ledger_url, RABBITMQ_URL=rabbitmq_url)).close()
    rabbitmqctl(rabbitmq_folder, "add_user", "limited", "hunter2")
    try:
        rabbitmqctl(rabbitmq_folder, "set_permissions", "limited", "", "", "")
        found = examine(RABBITMQ_URL=limited)
        assert found.keys() == {"queue_forbidden"}
        assert "hunter2" not in str(found)
        assert "`rabbitmqctl set_permissions`" in found["queue_forbidden"].remedy
        own = r"kiket\.analytics\..*"
        assert own in found["queue_forbidden"].remedy
        rabbitmqctl(rabbitmq_folder, "set_permissions", "limited", own, rf"{own}|amq\.default", own)
        assert examine(RABBITMQ_URL=limited) == {}
        for name in (QUEUE_REQUESTS, QUEUE_SCHEDULED, QUEUE_DEAD):
            queues.queue_delete(name)
        open_broker(settings_of(installation.ledger_url, RABBITMQ_URL=limited)).close()
        assert examine(RABBITMQ_URL=limited) == {}, "with these rights, the queues are declared as well"
    finally:
        rabbitmqctl(rabbitmq_folder, "delete_user", "limited")


def test_looking_declares_no_queue(examine: Callable[..., dict[str, Finding]], queues: Any, rabbitmq_url: str) -> None:
    examine(RABBITMQ_URL=rabbitmq_url)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="NOT_FOUND"):
        queues.queue_declare(QUEUE_REQUESTS, passive=True)


def test_a_rabbitmq_that_does_not_answer_is_a_finding(examine: Callable[..., dict[str, Finding]]) -> None:
    found = examine(RABBITMQ_URL="amqp://guest:hunter2@localhost:1/%2F")
    assert "RABBITMQ_URL" in found["rabbitmq_unreachable"].message
    assert "hunter2" not in str(found)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_off_is_told_of(examine: Callable[..., dict[str, Finding]], hours: int) -> None:
    found = examine(now=lambda: datetime.now(UTC) + timedelta(hours=hours))
    assert "NTP" in found["clock_skewed"].remedy


def test_a_dbt_that_is_not_there_is_told_of(examine: Callable[..., dict[str, Finding]]) -> None:
    assert "no-such-dbt" in examine(KIKET_DBT_EXECUTABLE="no-such-dbt")["dbt_executable_missing"].message


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        ("echo 'Core:'; echo '  - installed: 1.11.4'", None, ""),
        ("echo 'Core:'; echo '  - installed: 1.12.0'", "dbt_untested", "dbt-core 1.12.0"),
        ("echo 'dbt-fusion 2.0.0'", None, ""),
        ("exit 3", "dbt_executable_broken", "exit status 3"),
        ("env | grep -q DATABASE_URL && exit 4; exit 0", None, ""),
    ],
)
def test_another_dbt_is_asked_for_its_version(
    examine: Callable[..., dict[str, Finding]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    script: str,
    kind: str | None,
    words: str,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://somebody:secret@nowhere/")
    executable = tmp_path / "another-dbt"
    executable.write_text(f"#!/bin/sh\n{script}\n")
    executable.chmod(0o755)
    found = {name: finding for name, finding in examine(KIKET_DBT_EXECUTABLE=executable).items() if "dbt" in name}
    assert list(found) == ([] if kind is None else [kind])
    if kind is not None:
        assert words in found[kind].message


def test_a_store_that_works_is_left_as_it_was(store: Store, s3_bucket: str) -> None:
    for one in (store, open_store(f"s3://{s3_bucket}/doctor-{uuid4().hex}")):
        assert list(examine_store(one)) == []
        assert list(one.list("")) == []
        assert list(one.unfinished()) == []


def test_a_directory_that_cannot_be_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = by_kind(examine_store(open_store((tmp_path / "file" / "artifacts").as_uri())))
    assert "cannot be written" in found["artifacts_refused"].message


def test_a_bucket_that_is_missing_is_told_of_until_it_is_made(s3_bucket: str) -> None:
    name = f"missing-{uuid4().hex[:8]}"
    store = open_store(f"s3://{name}")
    assert "make the bucket" in by_kind(examine_store(store))["artifacts_bucket_missing"].remedy
    boto3.client("s3").create_bucket(Bucket=name)
    assert list(examine_store(store)) == []


def test_a_right_that_is_missing_in_the_store_is_told_of(answering: Callable[..., Any]) -> None:
    answering(403, "AccessDenied")
    found = by_kind(examine_store(open_store("s3://bucket")))
    assert "cannot be written" in found["artifacts_access_denied"].message
    assert "docs/artifacts.md" in found["artifacts_access_denied"].remedy


@pytest.mark.parametrize(
    ("step", "severity"), [("get", Severity.ERROR), ("list", Severity.ERROR), ("remove", Severity.INFO)]
)
def test_each_right_is_tried_by_itself(
    store: Store, monkeypatch: pytest.MonkeyPatch, step: str, severity: Severity
) -> None:
    def refuse(*_: object) -> None:
        raise ArtifactsAccessDenied("no")

    monkeypatch.setattr(type(store), step, refuse)
    (finding,) = examine_store(store)
    assert finding.severity is severity, "workers may remove nothing, and all is well"
    assert {"get": "read", "list": "listed", "remove": "remove nothing"}[step] in finding.message


def test_a_probe_that_may_not_be_removed_is_one_however_often_one_looks(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ArtifactsAccessDenied("no")

    monkeypatch.setattr(type(store), "remove", refuse)
    for _ in range(3):
        assert [finding.kind for finding in examine_store(store)] == ["artifacts_not_removable"]
    assert len(list(store.list(""))) == 1


def capacity(installation: Installation, **variables: object) -> dict[str, Finding]:
    return by_kind(examine_capacity(settings_of(installation.ledger_url, **variables), installation.ledger))


def test_runs_that_nobody_begins_are_told_of_until_a_worker_comes(installation: Installation) -> None:
    assert capacity(installation) == {}
    outbox.queue_due(installation.ledger, datetime.now(UTC))
    assert capacity(installation) == {}, "they have just been queued"
    installation.execute("update kiket_analytics.runs set queued_at = now() - interval '1 hour'")
    assert capacity(installation)["workers_absent"].message.startswith("4 runs wait, the first for 1.0 hours")
    claim(installation)
    assert "workers_absent" not in capacity(installation)


def test_a_ticker_that_is_silent_while_organisations_are_due_is_told_of_until_it_ticks(
    installation: Installation,
) -> None:
    installation.execute("update kiket_analytics.analytics_settings set updated_at = now() - interval '2 hours'")
    assert "4 organisations are due, the first for 2.0 hours" in capacity(installation)["ticker_silent"].message
    outbox.queue_due(installation.ledger, datetime.now(UTC))
    assert "ticker_silent" not in capacity(installation)


def test_cadences_that_ask_for_more_than_workers_do_are_told_of(installation: Installation) -> None:
    claim(installation)
    installation.execute(
        "update kiket_analytics.attempts set started_at = now() - interval '6 hours', finished_at = now(),"
        " outcome = 'succeeded'"
    )
    found = capacity(installation, KIKET_CONCURRENCY=1)["capacity_short"]
    assert "workers with KIKET_CONCURRENCY 1" in found.remedy
    installation.execute("update kiket_analytics.analytics_settings set refresh_interval_hours = 8760")
    assert "capacity_short" not in capacity(installation, KIKET_CONCURRENCY=1)


def test_limits_of_connections_are_told_of_until_they_are_lifted(installation: Installation) -> None:
    name = installation.rows("select current_database() as name")[0]["name"]
    for limited, lifted in (
        (f"alter database {name} connection limit 10", f"alter database {name} connection limit -1"),
        ("alter role kiket_ledger connection limit 10", "alter role kiket_ledger connection limit -1"),
    ):
        assert "connections_short" not in capacity(installation)
        installation.execute(limited)
        try:
            assert "limit is 10" in capacity(installation)["connections_short"].message
        finally:
            installation.execute(lifted)
    assert "connections_short" in capacity(installation, KIKET_CONCURRENCY=64)
    many = by_kind(examine_capacity(settings_of(installation.ledger_url), installation.ledger, workers=200))
    assert "200 workers" in many["connections_short"].message


def claim(installation: Installation) -> None:
    (acme,) = installation.rows("select id from public.organizations where slug = 'acme'")
    run = runs.request(installation.ledger, Request(acme["id"], "acme"))
    claims.claim(
        installation.ledger, run.run_id, worker="w", ttl_seconds=60, schema_name=schema_name, end_sessions=lambda *_: 0
    )
