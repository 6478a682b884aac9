"""`kiket-worker definitions`: repositories are validated and published, and organisations go back."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from kiket_worker.artifacts.store import store_of
from kiket_worker.cli.output import JsonOption, print_json, print_table
from kiket_worker.dbt.bundle import core_bundle
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.dbt.overlay import DEFAULT_NAME, is_name
from kiket_worker.definitions.publishing import Publication, Published, Publisher, Result
from kiket_worker.definitions.reading import check_folder
from kiket_worker.definitions.report import as_document, as_lines, as_sarif
from kiket_worker.definitions.trial.trial import Trials
from kiket_worker.definitions.validation import validate
from kiket_worker.errors import ServiceUnreachable, UsageError
from kiket_worker.ledger import definitions, organizations
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.definitions import Version
from kiket_worker.ledger.organizations import Organization
from kiket_worker.queue.waking import wake_all
from kiket_worker.refresh.services import open_isolation
from kiket_worker.settings import Settings, load_settings
from kiket_worker.telemetry.logs import silence_logs

app = typer.Typer(help="Definition repositories: validate them, publish them, and go back.", no_args_is_help=True)


class Format(StrEnum):
    """How problems are printed."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"


@app.command("validate")
def validate_repository(
    path: Annotated[Path, typer.Argument(help="The folder of a definition repository.", show_default=False)],
    organization: Annotated[
        str | None, typer.Option(help="Beside what this organisation has published already, by its slug.")
    ] = None,
    name: Annotated[str, typer.Option(help="Under which name it would be published there.")] = DEFAULT_NAME,
    output: Annotated[Format, typer.Option("--format", help="How problems are printed.")] = Format.TEXT,
    json: JsonOption = False,
) -> None:
    """Say all that is wrong with a repository; exit 1 on any error. Nothing is published."""
    silence_logs()
    _check_name(name)
    settings = load_settings()
    with _database(settings) as database:
        others = {}
        if organization:
            found = organizations.find(database, organization)
            others = _publisher(settings, database).others(found, name)
        validation = validate(path, _trials(settings, database), name=name, others=others)
    if json or output is Format.JSON:
        print_json([as_document(problem) for problem in validation.problems])
    elif output is Format.SARIF:
        print_json(as_sarif(validation.problems))
    else:
        for line in as_lines(validation.problems, validation.texts):
            typer.echo(line)
    if not validation.is_valid:
        raise typer.Exit(1)


@app.command("publish")
def publish(
    path: Annotated[Path, typer.Argument(help="The folder of a definition repository.", show_default=False)],
    organization: Annotated[
        list[str] | None, typer.Option(help="Publish to this organisation, by its slug; may be given again.")
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", help="Publish to every organisation that has opted in.")] = False,
    name: Annotated[str, typer.Option(help="Beside which other repositories or templates it stands.")] = DEFAULT_NAME,
    author: Annotated[str | None, typer.Option(help="Who publishes.", show_default=False)] = None,
    commit: Annotated[str | None, typer.Option(help="Of which commit the folder is.", show_default=False)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be.")] = False,
    json: JsonOption = False,
) -> None:
    """Validate a definition repository and switch organisations to it; their refresh is asked for.

    Exit 1 if it was refused or failed for one of them; the others are switched all the same. A folder with nothing to
    publish takes what stood under the name away.
    """
    silence_logs()
    if bool(organization) is everyone:
        raise UsageError("give either organisations, by --organization SLUG, or --all")
    _check_name(name)
    check_folder(path)
    settings = load_settings()
    with _database(settings) as database:
        trials = _trials(settings, database)
        publication = Publication(
            validate=lambda others: validate(path, trials, name=name, others=others),
            name=name,
            author=author,
            source_commit=commit,
            dry_run=dry_run,
        )
        chosen = _chosen(database, organization)
        done: list[Published] = []
        for one in _publisher(settings, database).publish(publication, chosen):
            done.append(one)
            if not json:
                _tell(one, f"{len(done)}/{len(chosen)}" if len(chosen) > 1 else "")
        if json:
            print_json([_document(one) for one in done])
        _wake(settings, database, chosen, done)
    if faults := [one.fault for one in done if one.has_failed]:
        is_away = all(isinstance(fault, ServiceUnreachable) for fault in faults)
        raise typer.Exit(ServiceUnreachable.exit_code if is_away else 1)


@app.command("list")
def list_versions(slug: str, json: JsonOption = False) -> None:
    """Every version of an organisation's definitions, newest first; the first is the current one."""
    with _database(load_settings()) as database:
        found = definitions.history(database, organizations.find(database, slug).organization_id)
    documents = [_version_document(version, is_current=version is found[0]) for version in found]
    if json:
        print_json(documents)
        return
    print_table(
        ["version", "published at", "name", "author", "commit", "overlays"],
        (
            [
                f"{version.version} (current)" if version is found[0] else version.version,
                version.published_at,
                f"back to {version.rolled_back_to}" if version.rolled_back_to else version.name,
                version.author,
                version.source_commit,
                ", ".join(f"{name} {digest[:12]}" for name, digest in sorted(version.overlays.items())) or "none",
            ]
            for version in found
        ),
    )


@app.command("rollback")
def rollback(
    slug: str,
    version: Annotated[int, typer.Argument(help="The version to go back to.", min=1, show_default=False)],
    json: JsonOption = False,
) -> None:
    """Switch an organisation to the definitions of an earlier version, as a new version; its refresh is asked for."""
    silence_logs()
    settings = load_settings()
    with _database(settings) as database:
        organization = organizations.find(database, slug)
        done = _publisher(settings, database).roll_back(organization, version)
        if json:
            print_json(_document(done))
        else:
            _tell(done, "")
        _wake(settings, database, [organization], [done])


def _check_name(name: str) -> None:
    if not is_name(name):
        raise UsageError(f"{name!r} is no name: up to 31 of a-z, 0-9 and _, beginning with a letter")


def _trials(settings: Settings, database: Database) -> Trials:
    connection = DbtConnection.from_settings(settings)
    isolation = open_isolation(settings, connection)
    isolation.check(database)
    return Trials(database, isolation, connection, time_limit_seconds=settings.validation_time_limit_seconds)


def _publisher(settings: Settings, database: Database) -> Publisher:
    return Publisher(database, store_of(settings), core_bundle())


def _database(settings: Settings) -> Database:
    return Database(settings.database_url.get_secret_value())


def _chosen(database: Database, slugs: list[str] | None) -> list[Organization]:
    if slugs:
        return [organizations.find(database, slug) for slug in dict.fromkeys(slugs)]
    return [one for one in organizations.list_with_settings(database) if one.enabled]


def _wake(settings: Settings, database: Database, organizations: list[Organization], done: list[Published]) -> None:
    ids = {one.slug: one.organization_id for one in organizations}
    asked = [ids[one.slug] for one in done if one.run_id]
    if asked and not settings.in_one_process:
        wake_all(settings, database, asked)


def _tell(one: Published, progress: str) -> None:
    words = {
        Result.PUBLISHED: f"published as version {one.version}",
        Result.ROLLED_BACK: f"rolled back, as version {one.version}",
        Result.UNCHANGED: "unchanged: that is what it has" if one.version else "unchanged: there is nothing to publish",
        Result.VALID: "valid, and not published",
        Result.REFUSED: f"refused: {one.fault}",
        Result.FAILED: f"failed: {one.fault}",
    }[one.result]
    if one.result in {Result.PUBLISHED, Result.ROLLED_BACK}:
        words += f"; run {one.run_id} builds it" if one.run_id else "; it is paused, so no refresh was asked for"
    typer.echo(" ".join(part for part in (progress, one.slug, " ".join(words.split())) if part), err=one.has_failed)
    for line in as_lines(one.problems, one.texts) if one.result is Result.REFUSED else ():
        typer.echo(line, err=True)


def _document(one: Published) -> dict[str, Any]:
    return {
        "organization": one.slug,
        "outcome": one.result,
        "version": one.version,
        "bundle_digest": one.bundle_digest,
        "run_id": one.run_id,
        "error_kind": one.fault.kind if one.fault else None,
        "error": str(one.fault) if one.fault else None,
        "problems": [as_document(problem) for problem in one.problems],
    }


def _version_document(version: Version, *, is_current: bool) -> dict[str, Any]:
    return {
        "version": version.version,
        "current": is_current,
        "name": version.name,
        "author": version.author,
        "commit": version.source_commit,
        "published_at": version.published_at,
        "overlays": dict(version.overlays),
        "bundle_digest": version.bundle_digest,
        "rolled_back_to": version.rolled_back_to,
    }
