"""`kiket-worker tenants`: the organisations' roles and schemas in the database."""

from collections import Counter
from typing import Annotated

import typer
from rich.console import Console

from kiket_worker.cli.output import JsonOption, print_json, print_table
from kiket_worker.errors import InvalidSlug, KiketError, UsageError
from kiket_worker.ledger import organizations
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.organizations import Organization
from kiket_worker.settings import IsolationMode, Settings, load_settings
from kiket_worker.telemetry.logs import silence_logs
from kiket_worker.tenants import provisioning, roles
from kiket_worker.tenants.keys import TenantKeys
from kiket_worker.tenants.provisioning import Candidate, Limits, Provisioned, Provisioner
from kiket_worker.tenants.schema import schema_name

app = typer.Typer(help="The organisations' roles and schemas in the database.", no_args_is_help=True)


@app.command("list")
def list_tenants(json: JsonOption = False) -> None:
    """Every organisation that has analytics settings, the next due first."""
    with _database(load_settings()) as database:
        found = organizations.list_with_settings(database)
    documents = [
        {
            "organization_id": organization.organization_id,
            "slug": organization.slug,
            "plan": organization.plan,
            "enabled": organization.enabled,
            "schema": _schema(organization),
            "last_run_at": organization.last_run_at,
            "due_at": organization.due_at,
        }
        for organization in found
    ]
    if json:
        print_json(documents)
    else:
        print_table(
            ["id", "slug", "plan", "enabled", "schema", "last run", "due"], (list(row.values()) for row in documents)
        )


@app.command("provision")
def provision(
    slugs: Annotated[list[str] | None, typer.Argument(metavar="SLUG...", show_default=False)] = None,
    everyone: Annotated[bool, typer.Option("--all", help="Every organisation that has opted in.")] = False,
    json: JsonOption = False,
) -> None:
    """Make roles and schemas, and mend those that have drifted; exit 1 if one of them cannot be.

    Workers do the same at an organisation's refresh.
    """
    if bool(slugs) is everyone:
        raise UsageError("give either the slugs of organisations or --all")
    settings = _settings()
    provisioner = _provisioner(settings)
    with _database(settings) as database:
        roles.check(database)
        if slugs:
            found = [organizations.find(database, slug) for slug in slugs]
        else:
            found = [one for one in organizations.list_with_settings(database) if one.enabled]
        _report(_provisioned(database, provisioner, found, quiet=json), json=json)


@app.command("rotate-keys")
def rotate_keys(json: JsonOption = False) -> None:
    """Give every tenant passwords of the newest key in KIKET_TENANT_KEYS.

    An organisation that is being refreshed keeps its own until its next refresh, which changes them. Run it until it
    says that nobody has an older key, and then take that out of KIKET_TENANT_KEYS.
    """
    settings = _settings()
    keys, provisioner = TenantKeys.from_settings(settings), _provisioner(settings)
    with _database(settings) as database:
        roles.check(database)
        outcomes = Counter[str]()
        faults: list[KiketError] = []
        for batch in provisioner.rotate(database):
            outcomes.update(one.outcome for one in batch)
            faults += [one.fault for one in batch if one.fault]
            _tell_progress(sum(outcomes.values()), quiet=json)
        versions = provisioning.key_versions(database)
    old = sum(count for version, count in versions.items() if version != keys.current)
    document = {
        "version": keys.current,
        "rotated": outcomes["rotated"],
        "busy": outcomes["busy"],
        "failed": outcomes["failed"],
        "older": old,
    }
    if json:
        print_json(document)
    else:
        for fault in faults:
            typer.echo(f"kiket-worker: {fault}", err=True)
        typer.echo(
            f"version {keys.current}: {document['rotated']} rotated, {document['busy']} are being refreshed, "
            f"{document['failed']} failed; {old or 'nobody'} left with an older key"
        )
    if faults:
        raise typer.Exit(1)


@app.command("drop")
def drop(
    slug: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Remove an organisation's schema, its roles and all that they own; the ledger and the artifacts stay.

    Works for organisations that the platform has removed, too.
    """
    settings = _settings()
    schema = schema_name(slug)
    with _database(settings) as database:
        roles.check(database)
        if (
            not yes
            and typer.prompt(f"This removes schema {schema} with all its data. Type {slug} to go on", err=True) != slug
        ):
            raise UsageError(f"what was typed is not {slug}; nothing was removed")
        provisioning.drop(database, slug)
    if json:
        print_json({"dropped": schema})
    else:
        typer.echo(f"dropped {schema}; while {slug} is enabled, its next refresh makes it anew")


def _settings() -> Settings:
    silence_logs()
    settings = load_settings()
    if settings.isolation is IsolationMode.SHARED:
        raise UsageError(
            "with KIKET_ISOLATION=shared organisations have no roles of their own; dbt makes their schemas"
        )
    return settings


def _database(settings: Settings) -> Database:
    return Database(settings.database_url.get_secret_value())


def _provisioner(settings: Settings) -> Provisioner:
    return Provisioner(TenantKeys.from_settings(settings), Limits.from_settings(settings))


def _schema(organization: Organization) -> str | None:
    try:
        return schema_name(organization.slug) if organization.can_have_schema else None
    except InvalidSlug:
        return None


def _provisioned(
    database: Database, provisioner: Provisioner, found: list[Organization], *, quiet: bool
) -> list[Provisioned]:
    candidates = sorted(
        (Candidate(one.organization_id, one.slug) for one in found), key=lambda candidate: candidate.organization_id
    )
    done: list[Provisioned] = []
    for batch in provisioner.provision_all(database, candidates):
        done += batch
        _tell_progress(len(done), total=len(candidates), quiet=quiet)
    return done


def _tell_progress(done: int, *, quiet: bool, total: int | None = None) -> None:
    console = Console(stderr=True, highlight=False, quiet=quiet)
    console.print(f"{done} of {total}" if total else str(done))


def _report(done: list[Provisioned], *, json: bool) -> None:
    if json:
        print_json(
            [
                {
                    "slug": one.candidate.slug,
                    "outcome": one.outcome,
                    "drift": one.drift,
                    "error_kind": one.fault.kind if one.fault else None,
                    "error": str(one.fault) if one.fault else None,
                }
                for one in done
            ]
        )
    else:
        print_table(
            ["slug", "outcome", "drift"],
            ([one.candidate.slug, one.outcome, str(one.fault) if one.fault else ", ".join(one.drift)] for one in done),
        )
    if any(one.fault for one in done):
        raise typer.Exit(1)
