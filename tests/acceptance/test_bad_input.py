"""What users get wrong: one plain line that names the thing and the remedy, and the right exit code."""

import socket
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from kiket_worker.ledger.database import Database
from kiket_worker.ledger.outbox import Waiting
from kiket_worker.schedule.ticker import tick
from tests.acceptance.conftest import COMMAND

NOWHERE = "127.0.0.1:9"  # The discard port: nobody listens.
NO_TEXT = "\udcff"  # The byte 0xff, as Python passes it on to a process.
SCHEMA = "analytics_org_blue_harbor"


def test_missing_variables_are_all_named(installation: Any) -> None:
    without = ("DATABASE_URL", "RABBITMQ_URL", "ARTIFACTS_URL")
    result = installation.run("runs", "list", without=without, command=COMMAND)
    result.refused(2, *without, ".env.example")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "mysql://root:hunter2@localhost/kiket"),
        ("DATABASE_URL", "postgresql://localhost:port:port/kiket"),
        ("DATABASE_URL", "postgresql://kiket:hunter2/x@localhost/kiket"),
        ("RABBITMQ_URL", "http://guest:hunter2@localhost"),
        ("ARTIFACTS_URL", "artifacts"),
        ("ARTIFACTS_URL", "s3://"),
        ("KIKET_CONCURRENCY", "many"),
        ("KIKET_TICK_INTERVAL_SECONDS", "0"),
        ("DBT_SHARED_SCHEMA", 'shared"; drop schema public'),
    ],
)
def test_a_malformed_variable_is_named_and_its_secrets_are_not(installation: Any, variable: str, value: str) -> None:
    result = installation.run("runs", "list", **{variable: value})
    result.refused(2, variable)
    assert "hunter2" not in result.err


def test_an_unreachable_postgres_is_exit_code_3(installation: Any) -> None:
    unreachable = f"postgresql://kiket:hunter2@{NOWHERE}/kiket"
    for command in (["runs", "list"], ["migrate"], ["refresh", "acme"], ["ticker", "--once"], ["usage", "acme"]):
        result = installation.run(*command, DATABASE_URL=unreachable, RABBITMQ_URL=f"amqp://{NOWHERE}")
        result.refused(3, "Postgres", "DATABASE_URL")
        assert "hunter2" not in result.err


def test_an_unreachable_rabbitmq_is_exit_code_3_and_the_accepted_request_waits(installation: Any) -> None:
    unreachable = f"amqp://guest:hunter2@{NOWHERE}/%2F"
    for command in (["worker"], ["ticker", "--once"]):
        installation.run(*command, RABBITMQ_URL=unreachable).refused(3, "RabbitMQ", "RABBITMQ_URL")
    result = installation.run("refresh", "acme", RABBITMQ_URL=unreachable)
    result.refused(3, "RabbitMQ", "ledger")
    assert "hunter2" not in result.err
    (run,) = installation.run("runs", "list", "--organization", "acme", "--json").document
    assert run["status"] == "queued"


def test_something_that_is_no_rabbitmq_is_exit_code_3(installation: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"amqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}/%2F"
        installation.run("ticker", "--once", RABBITMQ_URL=url).refused(3, "RabbitMQ", "RABBITMQ_URL")


def test_a_worker_does_not_begin_on_a_ledger_of_an_earlier_release(
    installation: Any, sample_database: Any, rabbitmq_url: str
) -> None:
    sample_database.execute("delete from kiket_analytics._yoyo_migration where migration_id = '0003-attempts'")
    for command in (["worker"], ["ticker", "--once"]):
        result = installation.run(*command, RABBITMQ_URL=rabbitmq_url)
        result.refused(1, "0003-attempts", "kiket-worker migrate")


def test_a_database_without_ledger_names_the_command_that_makes_it(installation: Any, empty_database: Any) -> None:
    result = installation.run("runs", "list", DATABASE_URL=empty_database.url)
    result.refused(1, "kiket-worker migrate")


def test_an_unknown_organisation_is_wrong_use(installation: Any) -> None:
    for command in (["refresh", "acne"], ["settings", "show", "acne"], ["usage", "acne"]):
        installation.run(*command).refused(2, "acne")
    assert installation.run("runs", "list", "--json").document == []


@pytest.mark.parametrize("slug", ["Acme", "o'neill", 'quo"te', "a.b", "-a", "a_", "x" * 50, "café", "a b"])
def test_a_slug_that_cannot_be_a_schema_is_refused_before_anything_is_queued(
    installation: Any, sample_database: Any, slug: str
) -> None:
    sample_database.execute(
        "insert into public.organizations values (77, %s, 'Hostile', 'team', now())",
        slug,
    )
    sample_database.execute("insert into kiket_analytics.analytics_settings values (77, true)")
    installation.run("refresh", "--", slug).refused(2, slug if "'" not in slug else "neill")
    installation.run("settings", "set", "--enabled", "--", slug).refused(2, slug if "'" not in slug else "neill")
    (listed,) = [one for one in installation.run("settings", "list", "--json").document if one["slug"] == slug]
    assert (listed["can_have_schema"], listed["due_at"]) == (False, None)
    published: list[Waiting] = []
    with Database(sample_database.url) as database:
        ticked = tick(database, published.append, now=datetime.now(UTC), republish_after_seconds=900)
    # The four others of the sample are due, so the ticker did look.
    assert {run.organization_slug for run in ticked.queued} == {run.organization_slug for run in published}
    assert len(published) == 4
    assert sample_database.rows("select from kiket_analytics.runs where organization_id = 77") == []


def test_an_organisation_whose_schema_is_anothers_is_not_enabled(installation: Any, sample_database: Any) -> None:
    sample_database.execute("insert into public.organizations values (77, 'blue_harbor', 'Hostile', 'team', now())")
    sample_database.execute("insert into kiket_analytics.leases (schema_name, organization_id) values (%s, 2)", SCHEMA)
    installation.run("settings", "set", "blue_harbor", "--enabled").refused(2, SCHEMA, "rename")
    assert sample_database.rows("select from kiket_analytics.analytics_settings where organization_id = 77") == []
    sample_database.execute("insert into kiket_analytics.analytics_settings values (77, true)")
    assert "no schema" in installation.run("settings", "list").out
    assert installation.run("settings", "set", "blue_harbor", "--paused").code == 0
    assert installation.run("settings", "set", "blue-harbor", "--enabled").code == 0


def test_arguments_that_are_no_text_are_wrong_use(installation: Any, sample_database: Any) -> None:
    for command in (["refresh"], ["usage"], ["settings", "show"], ["settings", "set", "--enabled"]):
        installation.run(*command, NO_TEXT).refused(2, "no organisation")
    installation.run("usage", NO_TEXT, command=COMMAND).refused(2, "no organisation")
    installation.run("runs", "list", "--organization", NO_TEXT).refused(2, "no organisation")
    installation.run("refresh", "acme", "--select", NO_TEXT).refused(2, "selection")
    installation.run("refresh", "acme", "--idempotency-key", NO_TEXT).refused(2, "idempotency key")
    installation.run("refresh", "acme", "--idempotency-key", "k" * 256).refused(2, "256", "255")
    assert sample_database.rows("select from kiket_analytics.runs") == []


def test_a_paused_organisation_is_refused_unless_forced(installation: Any, quick_dbt: Path) -> None:
    assert installation.run("settings", "set", "acme", "--paused").code == 0
    installation.run("refresh", "acme").refused(2, "acme", "--enabled", "--force")
    forced = installation.run("refresh", "acme", "--force", "--wait", "--json", KIKET_DBT_EXECUTABLE=str(quick_dbt))
    assert forced.code == 0
    assert forced.document["status"] == "succeeded"


def test_unknown_and_malformed_runs_are_wrong_use(installation: Any) -> None:
    unknown = uuid4()
    for command in ("show", "cancel", "retry"):
        installation.run("runs", command, unknown).refused(2, str(unknown))
        assert installation.run("runs", command, "seven").code == 2


def test_settings_that_make_no_sense_are_refused(installation: Any) -> None:
    installation.run("settings", "set", "acme").refused(2, "--enabled")
    installation.run("settings", "set", "acme", "--interval-hours", 3, "--plan-default").refused(2, "exclude")
    assert installation.run("settings", "set", "acme", "--interval-hours", 0).code == 2


def test_the_version_is_printed(installation: Any) -> None:
    result = installation.run("--version", command=COMMAND)
    assert (result.code, result.out) == (0, f"{version('kiket-worker')}\n")


def test_a_worker_without_rabbitmq_says_what_to_run_instead(installation: Any) -> None:
    installation.run("worker").refused(2, "memory://", "kiket-worker ticker")


def test_services_that_were_never_started_cannot_be_reached(installation: Any) -> None:
    installation.run("dev", "env").refused(2, "kiket-worker dev up")
    assert installation.run("dev", "down").code == 0


SCRIPTS = {
    "hangs": ("exec sleep 600", "dbt_timed_out", "KIKET_RUN_TIME_LIMIT_SECONDS"),
    "prints garbage": ("head -c 100000 /dev/urandom; exit 0", "dbt_no_results", "run_results.json"),
    "exits without results": ("exit 0", "dbt_no_results", "run_results.json"),
    "fails without a word": ("exit 7", "dbt_no_results", "code 7"),
}


@pytest.mark.parametrize("kind", SCRIPTS)
def test_a_dbt_that_misbehaves_fails_the_run_with_a_reason(installation: Any, tmp_path: Path, kind: str) -> None:
    body, error_kind, words = SCRIPTS[kind]
    script = tmp_path / "bad-dbt"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    result = installation.run(
        "refresh",
        "acme",
        "--wait",
        "--json",
        KIKET_DBT_EXECUTABLE=str(script),
        KIKET_RUN_TIME_LIMIT_SECONDS="2",
    )
    assert result.code == 1
    assert result.document["status"] == "failed"
    assert result.document["error"]["kind"] == error_kind
    assert installation.run("usage", "acme", "--json").document == []
    assert words in result.document["error"]["message"]


def test_a_missing_dbt_executable_is_named(installation: Any) -> None:
    result = installation.run("refresh", "acme", "--wait", KIKET_DBT_EXECUTABLE="/nowhere/dbt")
    assert result.code == 1
    assert "/nowhere/dbt" in result.out
    assert "KIKET_DBT_EXECUTABLE" in result.out
