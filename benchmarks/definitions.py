"""What validating a definition repository costs, against dbt building it once."""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.figures import Benchmark, Figure, Target, machine
from benchmarks.services import BenchmarkFailed, postgres_in, postgres_version, temporary_folder
from benchmarks.turns import in_turns
from kiket_worker.dbt.bundle import core_bundle
from kiket_worker.dbt.composition import compose
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.dbt.engine import Tenant
from kiket_worker.dbt.invocation import arguments, environment
from kiket_worker.dbt.overlay import DEFAULT_NAME, Overlay
from kiket_worker.definitions.trial.left import new_slug
from kiket_worker.definitions.trial.trial import Trials
from kiket_worker.definitions.validation import validate
from kiket_worker.dev import environment as dev_environment
from kiket_worker.dev.sample import OrganizationSpec
from kiket_worker.dev.secrets import secrets_of
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.organizations import Plan
from kiket_worker.refresh.services import open_isolation
from kiket_worker.settings import Settings
from kiket_worker.tenants.isolation import Isolation
from kiket_worker.tenants.provisioning import Candidate
from kiket_worker.tenants.schema import schema_name

MODELS = 30
_DASHBOARDS = 5
_MODEL = """{{ config(materialized='%s') }}

select
    project_id,
    completed_on,
    issues_completed
from {{ ref('%s') }}
{%% if is_incremental() %%}
where completed_on > (select max(completed_on) from {{ this }})
{%% endif %%}
"""
_ORGANIZATION = OrganizationSpec(1, "bench", "Bench", Plan.TEAM, projects=3, users=5, issues=50)
_DBT = Path(sys.executable).parent / "dbt"


def measure(short: bool) -> Benchmark:  # noqa: FBT001  # as every benchmark
    """The time of a validation of thirty models and five dashboards, as a ratio."""
    models, turns = (3, 1) if short else (MODELS, 5)
    with temporary_folder() as folder, postgres_in(folder / "postgres") as admin_url:
        superuser_url = dev_environment.load_platform(admin_url, "bench", (_ORGANIZATION,), now=datetime.now(UTC))
        installed = secrets_of(folder)
        settings = Settings.model_validate(
            {
                "DATABASE_URL": dev_environment.set_up_roles(superuser_url, installed),
                "RABBITMQ_URL": "memory://",
                "ARTIFACTS_URL": (folder / "artifacts").as_uri(),
                "KIKET_TENANT_KEYS": installed.tenant_keys,
            }
        )
        connection = DbtConnection.from_settings(settings)
        isolation = open_isolation(settings, connection)
        files = _files(models)
        root = folder / "repository"
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        with Database(settings.database_url.get_secret_value()) as database:
            trials = Trials(database, isolation, connection, time_limit_seconds=600)

            def by_us(_: int) -> None:
                found = validate(root, trials, name=DEFAULT_NAME, others={})
                if found.problems:
                    raise BenchmarkFailed(f"the repository has problems: {found.problems[0]}")

            def by_dbt(turn: int) -> None:
                _build(folder / f"turn-{turn}", Overlay(files), database, isolation, connection)

            measured = in_turns(turns, by_us, by_dbt)
        how = (
            f"validating {models} models and {_DASHBOARDS} dashboards, policy, trial and PREPARE of each widget's query"
            " included, against one `dbt build` of the same bundle, without rows too, in a schema made for it"
        )
        figures = [
            measured.figure("validation_ratio", how, Target("<=", 2.0)),
            Figure("validation_seconds", sorted(measured.measured)[len(measured.measured) // 2], "s", "its median"),
        ]
        return Benchmark("definitions", machine(postgres=postgres_version(admin_url), rabbitmq="not used"), figures)


def _files(models: int) -> dict[str, str]:
    """Each model reads the one before; every third is a table, every fifth incremental."""
    files = {}
    for number in range(models):
        above = f"team_{number - 1}" if number % 6 else "fct_throughput"
        kind = "table" if number % 3 == 0 else "incremental" if number % 5 == 0 else "view"
        files[f"analytics/dbt/models/team_{number}.sql"] = _MODEL % (kind, above)
    described = "".join(f"  - name: team_{number}\n    description: Of team {number}.\n" for number in range(models))
    files["analytics/dbt/models/teams.yml"] = f"models:\n{described}"
    for number in range(_DASHBOARDS):
        widgets = "".join(
            f"    - id: widget_{widget}\n      type: table\n      title: Widget\n"
            f"      query_config:\n        model: team_{widget % models}\n"
            "        select: [project_id, issues_completed]\n        limit: 50\n"
            for widget in range(6)
        )
        files[f".kiket/analytics/dashboards/board_{number}.yaml"] = (
            f'model_version: "1.0"\ndashboard:\n  id: board_{number}\n  name: Board\n  widgets:\n{widgets}'
        )
    return files


def _build(folder: Path, overlay: Overlay, database: Database, isolation: Isolation, connection: DbtConnection) -> None:
    folder.mkdir()
    candidate = Candidate(1_900_000_000, new_slug())
    schema = schema_name(candidate.slug)
    bundle = compose(core_bundle(), {DEFAULT_NAME: overlay}, folder / "project")
    with isolation.probe(database, candidate, schema) as login:
        tenant = Tenant(
            candidate.organization_id,
            candidate.slug,
            schema,
            schema,
            isolation.raw_schema,
            isolation.ledger_schema,
        )
        if login:
            tenant = replace(tenant, user=login.role, password=login.password)
        command = [str(_DBT), "build", *arguments(bundle, tenant, workdir=folder, target=folder / "target")]
        variables = environment(connection, tenant, workdir=folder, application_name="bench")
        done = subprocess.run(command, env=variables, capture_output=True, check=False, text=True)
        if done.returncode:
            raise BenchmarkFailed(f"dbt build failed: {done.stdout[-500:]}")
