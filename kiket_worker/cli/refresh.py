"""`kiket-worker refresh`: ask for a refresh, and watch it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from kiket_worker.cli.output import JsonOption, print_json
from kiket_worker.cli.run_document import run_document
from kiket_worker.cli.runs import print_run
from kiket_worker.cli.signals import Signals
from kiket_worker.cli.worker import Working, open_database
from kiket_worker.contract import Reason
from kiket_worker.errors import KiketError
from kiket_worker.ledger import organizations, outbox, runs
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.runs import Request, Run, RunId, RunModel, Status
from kiket_worker.queue.broker import open_broker
from kiket_worker.queue.publisher import publish_run
from kiket_worker.queue.waking import wake
from kiket_worker.refresh.requests import check_refreshable, submit
from kiket_worker.settings import Settings, load_settings
from kiket_worker.telemetry.logs import silence_logs

_POLL_SECONDS = 0.2


def refresh(
    slug: str,
    full_refresh: Annotated[bool, typer.Option("--full-refresh", help="Build incremental models anew.")] = False,
    docs: Annotated[bool, typer.Option("--docs", help="Archive dbt's catalog too.")] = False,
    select: Annotated[list[str] | None, typer.Option(help="Only these models, in dbt's selection syntax.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show the progress and end with the run.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also if the organisation is paused.")] = False,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key gives the same run again.")] = None,
    json: JsonOption = False,
) -> None:
    """Ask for a refresh of one organisation. With --wait, exit 1 if it does not succeed."""
    silence_logs()
    settings = load_settings()
    with Signals() as signals, open_database(settings, settings.concurrency) as database:
        organization = organizations.find(database, slug)
        check_refreshable(organization, forced=force)
        wanted = Request(
            organization_id=organization.organization_id,
            organization_slug=slug,
            reason=Reason.MANUAL,
            idempotency_key=idempotency_key,
            forced=force,
            full_refresh=full_refresh,
            docs=docs,
            selection=select,
        )
        run_id = submit(database, wanted).run_id
        with _published(settings, database, organization.organization_id, signals, wait=wait):
            if wait:
                _watch(database, run_id, signals, quiet=json)
        run, models = runs.get(database, run_id), runs.models(database, run_id)
    if json:
        print_json(run_document(run, models))
    elif wait:
        print_run(run, models)
    else:
        typer.echo(f"run {run_id} is {run.status}; `kiket-worker runs show {run_id}` follows it")
    if wait and run.status is not Status.SUCCEEDED:
        raise typer.Exit(1)


@contextmanager
def _published(
    settings: Settings, database: Database, organization_id: int, signals: Signals, *, wait: bool
) -> Iterator[None]:
    """Publish the run; with memory:// work on it here, if it is waited for, or leave it to the ticker's process."""
    if settings.in_one_process and not wait:
        yield
        return
    if not settings.in_one_process:
        wake(settings, database, organization_id)
        yield
        return
    broker = open_broker(settings)
    working = Working(settings, database, broker, 1)
    ended = threading.Event()

    def publish() -> None:
        """The ticker's part for this organisation: a run may have been left by a process that was killed."""
        while True:
            outbox.publish_waiting(
                database,
                partial(publish_run, broker),
                republish_after_seconds=settings.republish_after_seconds,
                organization_id=organization_id,
            )
            if ended.wait(settings.outbox_interval_seconds):
                return

    publisher = threading.Thread(target=publish, daemon=True)
    publisher.start()
    try:
        yield
    finally:
        ended.set()
        publisher.join()
        working.end(signals)


def _watch(database: Database, run_id: RunId, signals: Signals, *, quiet: bool) -> None:
    """Show the run's progress until it has ended: a live table on a terminal, a line a change elsewhere."""
    console = Console(highlight=False, markup=False, soft_wrap=True, quiet=quiet)
    shown: dict[str, str] = {}
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while not signals.asked.wait(_POLL_SECONDS):
            run, models = runs.get(database, run_id), runs.models(database, run_id)
            if console.is_terminal:
                live.update(_progress(run, models), refresh=True)
            else:
                _print_changes(console, shown, run, models)
            if run.status.has_ended:
                return
    raise KiketError(f"no longer waiting; `kiket-worker runs show {run_id}` tells how the run goes on")


def _progress(run: Run, models: list[RunModel]) -> Table:
    table = Table("model", "status", "seconds", "rows", title=f"{run.organization_slug}: {run.status}", box=None)
    for model in models:
        seconds = "" if model.duration_seconds is None else f"{model.duration_seconds:.2f}"
        rows = "" if model.rows_affected is None else str(model.rows_affected)
        table.add_row(model.model_id.rpartition(".")[2], model.status, seconds, rows)
    return table


def _print_changes(console: Console, shown: dict[str, str], run: Run, models: list[RunModel]) -> None:
    for name, status in [("run", str(run.status)), *((model.model_id, model.status) for model in models)]:
        if shown.get(name) != status:
            shown[name] = status
            console.print(f"{name.rpartition('.')[2]} {status}")
