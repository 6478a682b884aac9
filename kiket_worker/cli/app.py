"""The `kiket-worker` command and its one way of saying what went wrong."""

import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer

from kiket_worker import __version__
from kiket_worker.cli import (
    dead_letters,
    demo,
    dev,
    doctor,
    engine,
    migrate,
    refresh,
    runs,
    settings,
    tenants,
    ticker,
    usage,
    worker,
)
from kiket_worker.errors import KiketError

app = typer.Typer(
    name="kiket-worker",
    help="Keeps each organisation's analytics schema fresh.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("ticker")(ticker.ticker)
app.command("worker")(worker.worker)
app.command("migrate")(migrate.migrate)
app.command("doctor")(doctor.doctor)
app.command("refresh")(refresh.refresh)
app.add_typer(runs.app, name="runs")
app.add_typer(settings.app, name="settings")
app.command("usage")(usage.usage)
app.add_typer(tenants.app, name="tenants")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(engine.app, name="engine")
app.add_typer(dev.app, name="dev")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Run the command line: exit 0 done, 1 the work failed, 2 wrong use, 3 a service is unreachable."""
    # Without a handler SIGTERM would end Python on the spot, and nothing that a command started would be stopped.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app(standalone_mode=True)
    except KiketError as fault:
        typer.echo(f"kiket-worker: {' '.join(str(fault).split())}", err=True)
        sys.exit(fault.exit_code)
    sys.exit(0)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
