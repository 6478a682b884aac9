"""`kiket-worker definitions …`: definition repositories, validated."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kiket_worker.cli.output import JsonOption, print_json
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.dbt.overlay import DEFAULT_NAME
from kiket_worker.definitions.report import as_document, as_lines, as_sarif
from kiket_worker.definitions.trial.trial import Trials
from kiket_worker.definitions.validation import validate
from kiket_worker.ledger.database import Database
from kiket_worker.refresh.services import open_isolation
from kiket_worker.settings import Settings, load_settings
from kiket_worker.telemetry.logs import silence_logs


class Format(StrEnum):
    """How problems are printed."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"


app = typer.Typer(help="Definition repositories: models and dashboards of organisations.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """A group, though it has one command only."""


@app.command("validate")
def validate_repository(
    path: Annotated[Path, typer.Argument(help="A checked-out definition repository.")],
    output: Annotated[Format, typer.Option("--format", help="How problems are printed.")] = Format.TEXT,
    json: JsonOption = False,
) -> None:
    """Say all that is wrong with a repository; exit 1 on any error. Nothing is published."""
    silence_logs()
    settings = load_settings()
    with Database(settings.database_url.get_secret_value()) as database:
        found = validate(path, open_trials(settings, database), name=DEFAULT_NAME, others={})
    if json or output is Format.JSON:
        print_json([as_document(problem) for problem in found.problems])
    elif output is Format.SARIF:
        print_json(as_sarif(found.problems))
    else:
        for line in as_lines(found.problems, found.texts):
            typer.echo(line)
    if not found.is_valid:
        raise typer.Exit(1)


def open_trials(settings: Settings, database: Database) -> Trials:
    """Where overlays are tried, as the settings say. Raises `InvalidSetting`, and `RolesNotSetUp`."""
    connection = DbtConnection.from_settings(settings)
    isolation = open_isolation(settings, connection)
    isolation.check(database)
    return Trials(database, isolation, connection, time_limit_seconds=settings.validation_time_limit_seconds)
