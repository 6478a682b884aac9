"""The `kiket-worker` command and its one way of saying what went wrong."""

import signal
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from kiket_worker import __version__
from kiket_worker.errors import KiketError

# In the order of the help. Each is a module of this package, with a function of the same name or a group, `app`.
_COMMANDS = (
    *("demo", "ticker", "worker", "console", "migrate", "doctor", "refresh", "runs", "settings", "usage", "tenants"),
    *("definitions", "artifacts", "dead-letters", "tokens", "engine", "changelog", "dev"),
)


class _Commands(Mapping[str, Any]):
    """Commands by their names, loaded when asked for: none waits for the libraries of the others."""

    def __getitem__(self, name: str) -> Any:
        if name not in _COMMANDS:
            raise KeyError(name)
        module_name = name.replace("-", "_")
        module = import_module(f"kiket_worker.cli.{module_name}")
        holder = typer.Typer(add_completion=False)
        if group := getattr(module, "app", None):
            holder.add_typer(group, name=name)
            return get_group(holder).commands[name]
        holder.command(name)(getattr(module, module_name))
        return get_command(holder)

    def __iter__(self) -> Iterator[str]:
        return iter(_COMMANDS)

    def __len__(self) -> int:
        return len(_COMMANDS)


class _Group(TyperGroup):
    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = _Commands()  # type: ignore[assignment]  # only read


app = typer.Typer(
    cls=_Group,
    name="kiket-worker",
    help="Keeps each organisation's analytics schema fresh.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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
