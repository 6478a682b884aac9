"""The console as a process: tokens by the command line, requests over HTTP, and an end in order."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pika
import psycopg
import pytest

from kiket_worker.console.access import SESSION_COOKIE
from kiket_worker.contract import QUEUE_DEAD, QUEUE_REQUESTS
from tests.support.pages import tables

API = "/api/v1/analytics"


def started(installation: Any, until: Callable[..., Any], **variables: str) -> tuple[Any, str]:
    process = installation.start("console", "--port", 0, **variables)
    (event,) = until(
        lambda: [event for event in installation.log("console") if event["event"] == "console.started"], "it answers"
    )
    return process, f"http://{event['address']}"


def token(installation: Any, scope: str = "ops") -> str:
    result = installation.run("tokens", "create", "--scope", scope, "--name", "test")
    assert result.code == 0, result.err
    (secret,) = result.out.splitlines()
    return str(secret)


def test_a_refresh_that_the_api_is_asked_for_is_done_by_a_worker_at_once(
    cluster: Any, until: Callable[..., Any]
) -> None:
    cluster.start("worker")
    until(lambda: any(event["event"] == "worker.started" for event in cluster.log("worker")), "the worker runs")
    process, url = started(cluster, until, KIKET_PRICES="analytics_dbt_run=0.25")
    secret = token(cluster)
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {secret}"}) as client:
        asked = client.post(f"{API}/organizations/acme/refresh", json={"requested_by": "user:42"})
        assert asked.status_code == 202
        run_id = asked.json()["run_id"]
        with client.stream("GET", f"{API}/runs/{run_id}/events", timeout=60) as stream:
            lines = list(stream.iter_lines())  # Nobody ticks: the console has woken the worker.
        assert 'data: {"status":"succeeded"}' in lines
        shown = client.get(f"{API}/runs/{run_id}").json()
        assert (shown["status"], shown["requested_by"]) == ("succeeded", "user:42")
        assert [(model["status"], bool(model["started_at"])) for model in shown["models"]] == [("success", True)] * 2
        assert [attempt["outcome"] for attempt in shown["attempts"]] == ["succeeded"]
        assert shown["artifacts"]["location"].endswith(f"acme/{run_id}/1")
        used = client.get(f"{API}/usage?organization=acme").json()["totals"]["analytics_dbt_run"]
        assert (used["quantity"], used["estimated_cost_cents"]) == (2, 0.5)
        # The overview has the queues, and what is in them.
        client.cookies.set(SESSION_COOKIE, secret)
        with pika.BlockingConnection(pika.URLParameters(cluster.variables["RABBITMQ_URL"])) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish("", QUEUE_DEAD, b"not for anybody", mandatory=True)
        page = dict(row[:2] for row in tables(client.get("/").text)["queues-scroll"])
        assert page[f"{QUEUE_DEAD}dead letters"] == "1"
        assert page[QUEUE_REQUESTS] == "0"
        # The command line says the same.
        told = cluster.run("runs", "show", run_id, "--json").document
        assert (told["status"], len(told["models"])) == ("succeeded", 2)

        (cluster.folder / "hold").touch()
        waiting = client.post(f"{API}/organizations/acme/refresh").json()["run_id"]
        with client.stream("GET", f"{API}/runs/{waiting}/events", timeout=60) as stream:
            next(stream.iter_lines())
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            assert time.monotonic() - began < 5
        (cluster.folder / "hold").unlink()
    assert [event["event"] for event in cluster.log("console") if event["level"] != "info"] == []


def test_a_request_is_accepted_while_rabbitmq_is_away(cluster: Any, until: Callable[..., Any]) -> None:
    _, url = started(cluster, until, RABBITMQ_URL="amqp://127.0.0.1:9")
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token(cluster)}"}) as client:
        asked = client.post(f"{API}/organizations/acme/refresh")
        assert asked.status_code == 202
        told = until(
            lambda: [event for event in cluster.log("console") if event["event"] == "console.waking_failed"],
            "a warning",
        )
        assert told[0]["error_kind"] == "rabbitmq_unreachable"
        assert client.get(f"{API}/runs/{asked.json()['run_id']}").json()["status"] == "queued"


def test_tokens_are_made_listed_revoked_and_expire(
    installation: Any, sample_database: Any, until: Callable[..., Any]
) -> None:
    _, url = started(installation, until)
    made = installation.run("tokens", "create", "--scope", "organization:acme", "--expires-days", 7, "--json").document
    assert made["token"].startswith("kiket_")
    headers = {"Authorization": f"Bearer {made['token']}"}
    assert httpx.get(f"{url}{API}/organizations", headers=headers).json()["items"][0]["slug"] == "acme"
    (listed,) = installation.run("tokens", "list", "--json").document
    assert (listed["token_id"], listed["scope"], listed["organization"], listed["state"]) == (
        *(made["token_id"], "organization"),
        *("acme", "valid"),
    )
    assert made["token"].removeprefix("kiket_") not in json.dumps(listed)
    assert days_of(listed) == 7
    assert "acme" in installation.run("tokens", "list").out
    assert installation.run("tokens", "revoke", made["token_id"]).code == 0
    assert httpx.get(f"{url}{API}/organizations", headers=headers).status_code == 401
    assert installation.run("tokens", "list", "--json").document[0]["state"] == "revoked"
    assert installation.run("tokens", "create", "--scope", "ops").code == 0
    assert days_of(installation.run("tokens", "list", "--json").document[0]) == 90
    with psycopg.connect(sample_database.url) as connection:
        connection.execute("update kiket_analytics.tokens set expires_at = now() where revoked_at is null")
    assert installation.run("tokens", "list", "--json").document[0]["state"] == "expired"


def days_of(listed: dict[str, Any]) -> float:
    """For how many days a token opens anything."""
    return (datetime.fromisoformat(listed["expires_at"]) - datetime.fromisoformat(listed["created_at"])) / timedelta(1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "--scope", "everything"], ["everything", "ops", "organization:SLUG"]),
        (["create", "--scope", "organization:"], ["settings list"]),
        (["create", "--scope", "organization:nobody"], ["nobody"]),
        (["create", "--scope", "ops", "--name", "x" * 256], ["255"]),
        (["revoke", str(uuid4())], ["tokens list"]),
    ],
)
def test_wrong_use_of_tokens_is_exit_code_2(installation: Any, arguments: list[str], words: list[str]) -> None:
    installation.run("tokens", *arguments).refused(2, *words)


def test_a_console_that_cannot_begin_says_why(installation: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        installation.run("console", "--port", port).refused(2, "KIKET_CONSOLE_ADDRESS", str(port))
    installation.run("console", "--host", "203.0.113.1", "--port", 0).refused(2, "203.0.113.1")
    installation.run("console", KIKET_CONSOLE_ADDRESS="8080").refused(2, "KIKET_CONSOLE_ADDRESS")
    installation.run("console", KIKET_CONSOLE_PROXIES="everybody").refused(2, "KIKET_CONSOLE_PROXIES")
    installation.run("console", DATABASE_URL="postgresql://127.0.0.1:9/x").refused(3, "Postgres")


def test_no_other_command_waits_for_the_libraries_of_the_web(installation: Any) -> None:
    code = (
        "import sys; from kiket_worker.cli.app import app; from typer.main import get_group;"
        " commands = get_group(app).commands; [commands[name] for name in commands];"
        " sys.exit(sorted({'fastapi', 'uvicorn', 'starlette'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_examples_of_the_page_work_as_they_stand(installation: Any, until: Callable[..., Any]) -> None:
    _, url = started(installation, until)
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    block = page.partition("## Requests\n\n```sh\n")[2].partition("```")[0]
    assert "/refresh\n" in block
    secret = token(installation)
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {secret}"}) as client:
        # The key of the page's first request: it names the same run.
        key = {"Idempotency-Key": "7f1c"}
        run_id = client.post(f"{API}/organizations/acme/refresh", headers=key).json()["run_id"]
    lines = [line for line in block.splitlines() if not line.endswith("/events")]  # Nobody works on the run.
    script = "\n".join(lines).replace("http://127.0.0.1:8080", url).replace("RUN_ID", run_id)
    script = script.replace("curl --silent", "curl --silent --fail --write-out '\\n'")
    done = subprocess.run(
        ["sh", "-euc", script],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "KIKET_TOKEN": secret},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(run_id) >= 3
    assert "date,metric,quantity,unit,estimated_cost_cents" in done.stdout
    assert secret not in done.stdout + done.stderr
