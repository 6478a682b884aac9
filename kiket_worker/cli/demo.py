"""`kiket-worker demo`: the whole way once, on this machine, with nothing set up beforehand."""

import time
from pathlib import Path
from typing import Annotated

import typer

from kiket_worker.cli.dev import require_packages
from kiket_worker.cli.output import JsonOption, print_json, print_table
from kiket_worker.telemetry.logs import silence_logs


def demo(
    directory: Annotated[Path, typer.Option(help="Where database, artifacts and report are kept.")] = Path(
        "build/demo"
    ),
    json: JsonOption = False,
) -> None:
    """Refresh nine sample organisations end to end and check the result; exit 0 only if it is consistent."""
    require_packages()
    from kiket_worker.dev.demo import run_demo  # noqa: PLC0415  # its packages are an extra
    from kiket_worker.dev.service import usable  # noqa: PLC0415

    silence_logs()
    began = time.monotonic()

    def tell(line: str) -> None:
        if not json:
            typer.echo(f"{time.monotonic() - began:6.1f} s  {line}")

    with usable(directory):
        result = run_demo(directory.resolve(), tell)
    if json:
        print_json(result.document())
    else:
        columns = ["slug", "plan", "due", "status", "models", "usage_events", "duration_seconds"]
        print_table(columns, ([row[column] for column in columns] for row in result.document()["organizations"]))
        for fault in result.faults:
            typer.echo(f"fault: {fault}")
        typer.echo("consistent" if not result.faults else "NOT consistent")
        typer.echo(f"report: {result.report}")
    if result.faults:
        raise typer.Exit(1)
