"""The secrets of the test installation, and a worker's roles in a test database."""

from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.dev.secrets import DevSecrets
from kiket_worker.refresh.services import open_isolation
from kiket_worker.settings import Settings, tenant_keys
from kiket_worker.tenants.isolation import Isolation
from kiket_worker.tenants.keys import TenantKeys

# Of the worker's login and of the tenants' roles, in every database.
SECRETS = DevSecrets("ledger-password-of-the-tests", "1:tenant-key-of-the-tests-with-enough-characters")
KEYS = TenantKeys(tenant_keys(SECRETS.tenant_keys))


def settings_of(ledger_url: str, **variables: object) -> Settings:
    """The settings of an installation with roles; nothing in it is reached but its Postgres."""
    return Settings.model_validate(
        {
            "DATABASE_URL": ledger_url,
            "RABBITMQ_URL": "memory://",
            "ARTIFACTS_URL": "file:///nowhere",
            "KIKET_TENANT_KEYS": SECRETS.tenant_keys,
            "KIKET_DBT_ENGINE": "executable",
        }
        | variables
    )


def isolation_of(ledger_url: str, **variables: object) -> Isolation:
    """How that installation keeps its organisations apart."""
    settings = settings_of(ledger_url, **variables)
    return open_isolation(settings, DbtConnection.from_settings(settings))
