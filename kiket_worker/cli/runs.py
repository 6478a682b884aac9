"""`kiket-worker runs`: look at runs, end them, repeat them, put them back."""

from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console

from kiket_worker.artifacts.store import store_of
from kiket_worker.cli.output import JsonOption, print_json, print_table
from kiket_worker.cli.run_document import run_document
from kiket_worker.contract import Reason
from kiket_worker.errors import UsageError
from kiket_worker.ledger import organizations
from kiket_worker.ledger import runs as ledger_runs
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.runs import Request, Run, RunModel, Status
from kiket_worker.queue.waking import wake
from kiket_worker.refresh.recovery import Fate, recover
from kiket_worker.refresh.requests import submit
from kiket_worker.settings import load_settings
from kiket_worker.telemetry.logs import silence_logs

app = typer.Typer(help="Look at runs, end them, repeat them.", no_args_is_help=True)


@app.command("list")
def list_runs(
    organization: Annotated[str | None, typer.Option(help="Only this organisation's, by slug.")] = None,
    status: Annotated[Status | None, typer.Option(help="Only those with this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    json: JsonOption = False,
) -> None:
    """Runs, newest first."""
    with _database() as database:
        organization_id = organizations.find(database, organization).organization_id if organization else None
        found = ledger_runs.list_newest(database, organization_id=organization_id, status=status, limit=limit)
    if json:
        print_json([run_document(run) for run in found])
    else:
        columns = ["run", "organisation", "reason", "status", "attempt", "queued", "finished", "error"]
        print_table(columns, (_row(run) for run in found))


@app.command("show")
def show_run(run_id: UUID, json: JsonOption = False) -> None:
    """One run, with its models."""
    with _database() as database:
        run, models = ledger_runs.get(database, run_id), ledger_runs.models(database, run_id)
    if json:
        print_json(run_document(run, models))
    else:
        print_run(run, models)


@app.command("cancel")
def cancel_run(run_id: UUID, json: JsonOption = False) -> None:
    """End a run: at once if it waits, else as soon as its worker hears of it."""
    with _database() as database:
        status = ledger_runs.cancel(database, run_id)
        run, models = ledger_runs.get(database, run_id), ledger_runs.models(database, run_id)
    if json:
        print_json(run_document(run, models))
    else:
        typer.echo("cancelled" if status is Status.CANCELLED else "asked its worker to end it")


@app.command("retry")
def retry_run(run_id: UUID, json: JsonOption = False) -> None:
    """Ask for the same refresh again, as a new run."""
    silence_logs()
    settings = load_settings()
    with Database(settings.database_url.get_secret_value()) as database:
        earlier = ledger_runs.get(database, run_id)
        if not earlier.status.has_ended:
            raise UsageError(f"run {run_id} has not ended: it is {earlier.status}, so there is nothing to retry")
        wanted = Request(
            organization_id=earlier.organization_id,
            organization_slug=earlier.organization_slug,
            reason=Reason.RETRY,
            forced=earlier.forced,
            full_refresh=earlier.full_refresh,
            docs=earlier.docs,
            selection=earlier.selection,
        )
        accepted = submit(database, wanted)
        if not settings.in_one_process:  # There the process that has the queue finds the run in the ledger.
            wake(settings, database, earlier.organization_id)
        run = ledger_runs.get(database, accepted.run_id)
    if json:
        print_json(run_document(run, []))
    else:
        typer.echo(f"run {run.run_id} is {run.status}")


@app.command("recover")
def recover_runs(json: JsonOption = False) -> None:
    """After a restore of the ledger: record the runs that only the artifact store has, with their usage.

    Exit code 1 while some of them wait for another run of their organisation, or are damaged; run it again later.
    """
    silence_logs()
    settings = load_settings()
    with Database(settings.database_url.get_secret_value()) as database:
        found = list(recover(database, store_of(settings)))
    documents = [
        {"run_id": str(one.run_id), "organization": one.organization, "attempt": one.attempt, "fate": one.fate}
        for one in found
    ]
    if json:
        print_json(documents)
    else:
        print_table(["run", "organisation", "attempt", "what became of it"], (list(one.values()) for one in documents))
    if any(one.fate in {Fate.BUSY, Fate.DAMAGED} for one in found):
        raise typer.Exit(1)


def print_run(run: Run, models: list[RunModel]) -> None:
    """Print a run and its models for people."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"run {run.run_id} of {run.organization_slug}: {run.status}, attempt {run.attempt}")
    if run.error_kind:
        console.print(f"{run.error_kind}: {run.error_message}")
    if run.artifacts_location:
        console.print(f"artifacts: {run.artifacts_location}")
    if models:
        print_table(
            ["model", "status", "seconds", "rows"],
            (
                [
                    model.model_id.rpartition(".")[2],
                    model.status,
                    None if model.duration_seconds is None else f"{model.duration_seconds:.2f}",
                    model.rows_affected,
                ]
                for model in models
            ),
        )


def _row(run: Run) -> list[object]:
    return [
        run.run_id,
        run.organization_slug,
        run.reason,
        run.status,
        run.attempt,
        run.queued_at,
        run.finished_at,
        run.error_kind,
    ]


def _database() -> Database:
    return Database(load_settings().database_url.get_secret_value())
