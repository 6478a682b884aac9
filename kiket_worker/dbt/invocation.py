"""How dbt is called for a tenant: its arguments, and an environment in which there is nothing that it does not need."""

import json
import os
from pathlib import Path

from kiket_worker.dbt.bundle import Bundle
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.dbt.engine import SharedModels, Tenant

# What a child gets beside the connection that is the same for every run, wherever it runs.
_CONSTANT = {
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONUNBUFFERED": "1",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    # By variables and not by flags: a dbt that does not know one ignores it.
    "DBT_USE_COLORS": "false",
    "DBT_LOG_LEVEL_FILE": "none",
    "DBT_PARTIAL_PARSE": "false",
}


def command_of(command: str, bundle: Bundle) -> list[str]:
    """dbt's command for a bundle: `run` loads no seeds, so where there are any it is as much of `build` as that."""
    if command == "run" and bundle.has_seeds:
        return ["build", "--resource-type", "model", "--resource-type", "seed"]
    return [command]


def arguments(bundle: Bundle, tenant: Tenant | SharedModels, *, workdir: Path, target: Path) -> list[str]:
    """What follows dbt's command, but for what is to be built."""
    return [
        *("--project-dir", str(bundle.project_dir.absolute())),
        *("--profiles-dir", str(bundle.profiles_dir.absolute())),
        *("--target-path", str(target)),
        *("--log-path", str(workdir / "logs")),
        *("--target", tenant.target),
        *("--vars", json.dumps(tenant.variables)),
        *("--log-format", "json"),
    ]


def environment(
    connection: DbtConnection, tenant: Tenant | SharedModels, *, workdir: Path, application_name: str
) -> dict[str, str]:
    """The child's environment: no credentials, nothing of the worker's own settings. Writes libpq's password file."""
    if tenant.user is not None:
        connection = connection.logged_in_as(tenant.user, tenant.password)
    passfile, home = workdir / "pgpass", workdir / "home"
    if not passfile.exists():
        connection.write_passfile(passfile)
    home.mkdir(exist_ok=True)
    schema = {"DBT_ORGANIZATION_SCHEMA": tenant.schema} if isinstance(tenant, Tenant) else {}
    return (
        connection.environment(passfile)
        | _CONSTANT
        | schema
        | {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(home),
            "DBT_APPLICATION_NAME": application_name,
        }
    )
