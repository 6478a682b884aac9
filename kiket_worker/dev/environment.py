"""The development services together: Postgres with the sample platform, RabbitMQ, and a directory of artifacts."""

import shlex
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from psycopg import sql

from kiket_worker.dev import platform, postgres, rabbitmq, sample
from kiket_worker.dev.sample import OrganizationSpec
from kiket_worker.dev.secrets import LEDGER_ROLE, DevSecrets, secrets_of
from kiket_worker.dev.service import DevServiceFailed
from kiket_worker.errors import UsageError
from kiket_worker.ledger.migrate import migrate
from kiket_worker.tenants import roles
from kiket_worker.tenants.gates import load_gates

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
    set_up_roles(_of_database(admin_url), secrets_of(directory))
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


def set_up_roles(url: str, secrets: DevSecrets) -> str:
    """Bring ledger and roles up to this release as the superuser of the URL; give the URL of the worker's own login.

    Rights on the database itself do not come along when one is cloned, so this is done where it is to be used.
    """
    migrate(url)
    roles.set_up(url, load_gates(None), shared_schema="analytics_shared")
    with psycopg.connect(url) as connection:
        connection.execute(
            sql.SQL("alter role {} password {}").format(sql.Identifier(LEDGER_ROLE), secrets.ledger_password)
        )
    return _ledger_url(url, secrets)


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
    secrets = secrets_of(directory)
    return {
        "DATABASE_URL": _ledger_url(_of_database(admin_url), secrets),
        "RABBITMQ_URL": rabbitmq_url,
        "ARTIFACTS_URL": (directory / "artifacts").as_uri(),
        "KIKET_TENANT_KEYS": secrets.tenant_keys,
    }


def _of_database(admin_url: str) -> str:
    return admin_url.replace("/postgres?", f"/{DATABASE}?", 1)


def _ledger_url(superuser_url: str, secrets: DevSecrets) -> str:
    return superuser_url.replace("//postgres@", f"//{LEDGER_ROLE}:{secrets.ledger_password}@", 1)
