"""`kiket-worker settings`: who is refreshed, and how often."""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer

from kiket_worker.cli.output import JsonOption, print_json, print_table
from kiket_worker.errors import UsageError
from kiket_worker.ledger import organizations
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.organizations import Organization
from kiket_worker.settings import EngineName, load_settings
from kiket_worker.tenants.schema import check_own_schema


class EngineChoice(StrEnum):
    """An engine of an organisation's own, or that of the installation."""

    REPLAY = EngineName.REPLAY
    EXECUTABLE = EngineName.EXECUTABLE
    DEFAULT = "default"


app = typer.Typer(help="Who is refreshed, and how often.", no_args_is_help=True)


@app.command("list")
def list_settings(json: JsonOption = False) -> None:
    """Every organisation with analytics settings, the next due first."""
    with _database() as database:
        found = organizations.list_with_settings(database)
    if json:
        print_json([asdict(organization) for organization in found])
    else:
        _print(found)


@app.command("show")
def show_settings(slug: str, json: JsonOption = False) -> None:
    """One organisation's settings."""
    with _database() as database:
        found = organizations.find(database, slug)
    if json:
        print_json(asdict(found))
    else:
        _print([found])


@app.command("set")
def set_settings(
    slug: str,
    enabled: Annotated[bool | None, typer.Option("--enabled/--paused", help="Refresh it, or not.")] = None,
    interval_hours: Annotated[
        int | None, typer.Option(min=1, max=8760, help="Hours between refreshes, instead of the plan's.")
    ] = None,
    plan_default: Annotated[bool, typer.Option("--plan-default", help="Go back to the plan's interval.")] = False,
    engine: Annotated[
        EngineChoice | None, typer.Option(help="How dbt is run for it, instead of KIKET_DBT_ENGINE.")
    ] = None,
    docs: Annotated[bool | None, typer.Option("--docs/--no-docs", help="Leave dbt's docs with each run.")] = None,
    json: JsonOption = False,
) -> None:
    """Opt an organisation in, pause it, or give it an interval, an engine or docs of its own."""
    if enabled is None and interval_hours is None and not plan_default and engine is None and docs is None:
        raise UsageError(
            "nothing to set: give --enabled, --paused, --interval-hours, --plan-default, --engine, --docs or --no-docs"
        )
    if interval_hours is not None and plan_default:
        raise UsageError("--interval-hours and --plan-default exclude each other")
    with _database() as database:
        organization_id = organizations.find(database, slug).organization_id
        if enabled:
            check_own_schema(database, slug, organization_id)
        organizations.save_settings(
            database,
            organization_id,
            enabled=enabled,
            refresh_interval_hours=interval_hours,
            use_plan_default=plan_default,
            engine=engine,
            docs=docs,
        )
        found = organizations.find(database, slug)
    if json:
        print_json(asdict(found))
    else:
        _print([found])


@app.command("release")
def release(slug: str, json: JsonOption = False) -> None:
    """End an organisation's quarantine."""
    with _database() as database:
        organization_id = organizations.find(database, slug).organization_id
        organizations.save_settings(database, organization_id, release=True)
        found = organizations.find(database, slug)
    if json:
        print_json(asdict(found))
    else:
        _print([found])


def _database() -> Database:
    return Database(load_settings().database_url.get_secret_value())


def _state(organization: Organization) -> str:
    if organization.quarantine_reason:
        return "quarantined"
    if not organization.enabled:
        return "paused"
    return "enabled" if organization.can_have_schema else "no schema"


def _print(found: list[Organization]) -> None:
    def row(organization: Organization) -> list[Any]:
        return [
            organization.slug,
            organization.plan,
            _state(organization),
            f"{organization.interval_hours} h" if organization.interval_hours else "unknown plan",
            "own" if organization.refresh_interval_hours else "plan",
            organization.engine,
            "every run" if organization.docs else None,
            organization.last_run_at,
            organization.due_at,
        ]

    print_table(["slug", "plan", "state", "interval", "from", "engine", "docs", "last run", "due"], map(row, found))
