"""The development services together: Postgres with the sample platform, RabbitMQ, and a directory of artifacts."""

import shlex
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from kiket_worker.dev import platform, postgres, rabbitmq, sample
from kiket_worker.dev.sample import OrganizationSpec
from kiket_worker.dev.service import DevServiceFailed
from kiket_worker.errors import UsageError
from kiket_worker.ledger.migrate import migrate

DATABASE = "kiket"
SEED = 20260101


def up(directory: Path) -> dict[str, str]:
    """Start the services and, the first time, load the sample platform; give the variables that reach them.

    Raises `DevServiceFailed`; where RabbitMQ is not installed, before anything is started.
    """
    rabbitmq.executable()
    admin_url = postgres.start(directory / "postgres")
    rabbitmq_url = rabbitmq.start(directory / "rabbitmq")
    if not _is_loaded(admin_url):
        load_platform(admin_url, DATABASE, sample.demo(), now=datetime.now(UTC))
    return _variables(directory, admin_url, rabbitmq_url)


def down(directory: Path) -> None:
    """Stop the services; nothing happens where none run."""
    rabbitmq.stop(directory / "rabbitmq")
    postgres.stop(directory / "postgres")


def variables(directory: Path) -> dict[str, str]:
    """The variables that reach the running services; starts none. Raises `UsageError` where they do not run."""
    admin_url, rabbitmq_url = postgres.url(directory / "postgres"), rabbitmq.url(directory / "rabbitmq")
    if admin_url is None or rabbitmq_url is None or not _is_loaded(admin_url):
        remedy = shlex.join(["kiket-worker", "dev", "up", "--directory", str(directory)])
        raise UsageError(f"no services run in {directory}; `{remedy}` starts them")
    return _variables(directory, admin_url, rabbitmq_url)


def export_lines(environment: dict[str, str]) -> list[str]:
    """The variables as lines for a shell."""
    return [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]


def load_platform(admin_url: str, name: str, specs: tuple[OrganizationSpec, ...], *, now: datetime) -> str:
    """Make a database anew with the sample platform and an empty ledger, every organisation opted in; give its URL.

    The database appears under its name only when it is complete. Raises `DevServiceFailed`.
    """
    unfinished = f"{name}_unfinished"
    url = postgres.create_database(admin_url, unfinished)
    try:
        _fill(url, specs, now)
    except psycopg.Error as error:
        raise DevServiceFailed(f"the sample platform could not be loaded: {error}") from error
    complete = postgres.create_database(admin_url, name, template=unfinished)
    postgres.drop_database(admin_url, unfinished)
    return complete


def _fill(url: str, specs: tuple[OrganizationSpec, ...], now: datetime) -> None:
    with psycopg.connect(url) as connection:
        platform.create_tables(connection)
        platform.load(connection, specs, seed=SEED, now=now)
    migrate(url)
    with psycopg.connect(url) as connection:
        connection.execute(
            "insert into kiket_analytics.analytics_settings (organization_id, enabled)"
            " select id, true from public.organizations"
        )


def _is_loaded(admin_url: str) -> bool:
    with psycopg.connect(admin_url) as connection:
        found = connection.execute("select from pg_database where datname = %s", [DATABASE]).fetchone()
    return found is not None


def _variables(directory: Path, admin_url: str, rabbitmq_url: str) -> dict[str, str]:
    return {
        "DATABASE_URL": admin_url.replace("/postgres?", f"/{DATABASE}?", 1),
        "RABBITMQ_URL": rabbitmq_url,
        "ARTIFACTS_URL": (directory / "artifacts").as_uri(),
    }
