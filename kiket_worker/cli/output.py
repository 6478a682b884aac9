"""How commands print: JSON for programs, a table for people."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

# Cells are not cut or wrapped to a terminal that is not there: a line stays a row for whatever reads the pipe.
_PIPED_WIDTH = 10_000

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def print_json(document: Any) -> None:
    """Print a document of plain values and dates."""
    typer.echo(json.dumps(document, default=_plain, ensure_ascii=False, indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under column names; None is an empty cell."""
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*("" if cell is None else _cell(cell) for cell in row))
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    console.print(table)


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}Z"
    return str(value)


def _plain(value: object) -> str | float:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
