"""`kiket-worker dev`: a Postgres, a RabbitMQ node and the sample platform for this machine."""

from pathlib import Path
from typing import Annotated

import typer

from kiket_worker.cli.output import JsonOption, print_json

app = typer.Typer(help="A Postgres, a RabbitMQ node and the sample platform for this machine.", no_args_is_help=True)

DirectoryOption = Annotated[Path, typer.Option(help="Where the services keep their data.")]
DEFAULT_DIRECTORY = Path("build/dev")


@app.command("up")
def up(directory: DirectoryOption = DEFAULT_DIRECTORY) -> None:
    """Start the services, with the sample platform loaded and the ledger migrated; they stay until `dev down`."""
    from kiket_worker.dev import environment  # noqa: PLC0415  # its packages are an extra

    environment.up(directory.resolve())
    typer.echo(f'services run; `eval "$(kiket-worker dev env --directory {directory})"` reaches them')


@app.command("down")
def down(directory: DirectoryOption = DEFAULT_DIRECTORY) -> None:
    """Stop the services; their data stays."""
    from kiket_worker.dev import environment  # noqa: PLC0415

    environment.down(directory.resolve())
    typer.echo("services stopped")


@app.command("env")
def env(directory: DirectoryOption = DEFAULT_DIRECTORY, json: JsonOption = False) -> None:
    """Print the `export` lines that reach the services."""
    from kiket_worker.dev import environment  # noqa: PLC0415

    variables = environment.variables(directory.resolve())
    if json:
        print_json(variables)
    else:
        typer.echo("\n".join(environment.export_lines(variables)))
