"""`kiket-worker changelog`: how much of automated changelogs is left in what people publish."""

from pathlib import Path
from typing import Annotated

import typer

from kiket_worker.changelog.evaluation import evaluate as evaluate_releases
from kiket_worker.changelog.export import export as export_evaluations
from kiket_worker.cli.output import JsonOption, print_json
from kiket_worker.ledger import organizations
from kiket_worker.ledger.database import Database
from kiket_worker.settings import load_settings

app = typer.Typer(help="Automated changelogs compared with the human ones.", no_args_is_help=True)

DEFAULT_OUTPUT = Path("docs-site/data/changelog_evaluations.json")

OrganizationOption = Annotated[str | None, typer.Option(help="Only this organisation's, by slug.")]


@app.command("evaluate")
def evaluate(organization: OrganizationOption = None, json: JsonOption = False) -> None:
    """Score each release whose changelogs were not scored as they are now, and store the scores."""
    with Database(load_settings().database_url.get_secret_value()) as database:
        stored = evaluate_releases(database, organization_id=_id_of(database, organization))
    if json:
        print_json({"evaluated": stored})
    else:
        typer.echo(f"{_counted(stored, 'release')} evaluated")


@app.command("export")
def export(
    output: Annotated[Path, typer.Option(help="The file to write.")] = DEFAULT_OUTPUT,
    organization: OrganizationOption = None,
    json: JsonOption = False,
) -> None:
    """Write the newest 200 evaluations to a JSON file, if that changes it."""
    with Database(load_settings().database_url.get_secret_value()) as database:
        exported = export_evaluations(database, output, organization_id=_id_of(database, organization))
    if json:
        print_json(
            {"output": exported.output, "evaluations": exported.evaluations, "changed": exported.changed},
        )
    else:
        verb = "written to" if exported.changed else "unchanged in"
        typer.echo(f"{_counted(exported.evaluations, 'evaluation')} {verb} {exported.output}")


def _id_of(database: Database, slug: str | None) -> int | None:
    return organizations.find(database, slug).organization_id if slug is not None else None


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
