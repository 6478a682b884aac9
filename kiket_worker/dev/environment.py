"""The development services together: Postgres with the sample platform, RabbitMQ, and a directory of artifacts."""

import shlex
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from kiket_worker.dev import platform, postgres, rabbitmq, sample
from kiket_worker.dev.sample import OrganizationSpec
from kiket_worker.errors import UsageError
from kiket_worker.ledger.migrate import migrate

DATABASE = "kiket"
SEED = 20260101


def up(directory: Path) -> dict[str, str]:
    """Start the services and, the first time, load the sample platform; give the variables that reach them.

    Raises `DevServiceFailed`.
    """
    admin_url = postgres.start(directory / "postgres")
    rabbitmq_url = rabbitmq.start(directory / "rabbitmq")
    with psycopg.connect(admin_url) as connection:
        found = connection.execute("select from pg_database where datname = %s", [DATABASE]).fetchone()
    if found is None:
        load_platform(admin_url, DATABASE, sample.demo(), now=datetime.now(UTC))
    return _variables(directory, admin_url, rabbitmq_url)


def down(directory: Path) -> None:
    """Stop the services; nothing happens where none run."""
    rabbitmq.stop(directory / "rabbitmq")
    postgres.stop(directory / "postgres")


def variables(directory: Path) -> dict[str, str]:
    """The variables that reach the services. Raises `UsageError` where they were never started."""
    if not (directory / "postgres").is_dir() or not (directory / "rabbitmq").is_dir():
        raise UsageError(f"no services in {directory}; `kiket-worker dev up --directory {directory}` starts them")
    return up(directory)


def export_lines(environment: dict[str, str]) -> list[str]:
    """The variables as lines for a shell."""
    return [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]


def load_platform(admin_url: str, name: str, specs: tuple[OrganizationSpec, ...], *, now: datetime) -> str:
    """Make a database anew with the sample platform and an empty ledger, every organisation opted in; give its URL.

    The database appears under its name only when it is complete.
    """
    unfinished = f"{name}_unfinished"
    url = postgres.create_database(admin_url, unfinished)
    with psycopg.connect(url) as connection:
        platform.create_tables(connection)
        platform.load(connection, specs, seed=SEED, now=now)
    migrate(url)
    with psycopg.connect(url) as connection:
        connection.execute(
            "insert into kiket_analytics.analytics_settings (organization_id, enabled)"
            " select id, true from public.organizations"
        )
    complete = postgres.create_database(admin_url, name, template=unfinished)
    postgres.drop_database(admin_url, unfinished)
    return complete


def _variables(directory: Path, admin_url: str, rabbitmq_url: str) -> dict[str, str]:
    return {
        "DATABASE_URL": admin_url.replace("/postgres?", f"/{DATABASE}?", 1),
        "RABBITMQ_URL": rabbitmq_url,
        "ARTIFACTS_URL": (directory / "artifacts").as_uri(),
    }
