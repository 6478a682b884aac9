"""`kiket-worker engine …`: how dbt is run, and what keeps models from being replayed."""

from pathlib import Path
from typing import Any

import typer

from kiket_worker.cli.output import JsonOption, print_json, print_table
from kiket_worker.dbt.replay.compiled import Compiled, Standard
from kiket_worker.errors import CompilationBusy
from kiket_worker.ledger.database import Database
from kiket_worker.refresh.services import compile_core_bundle
from kiket_worker.settings import load_settings
from kiket_worker.telemetry.logs import silence_logs

app = typer.Typer(
    help="How dbt is run: recorded once and replayed, or as a process for each refresh.", no_args_is_help=True
)


@app.callback()
def _group() -> None:
    """A group, though it has one command only."""


@app.command("explain")
def explain(json: JsonOption = False) -> None:
    """Say whether the project is replayed, which models keep it from that and why; exit 1 if it is not.

    Records dbt if no worker has done so yet, which takes about a minute.
    """
    silence_logs()
    settings = load_settings()
    with Database(settings.database_url.get_secret_value()) as database:
        compiled = compile_core_bundle(settings, database)
    if compiled is None:
        raise CompilationBusy("a worker records dbt at this moment; ask again in a minute")
    document = _document(compiled, engine=settings.engine, executable=settings.dbt_executable)
    if json:
        print_json(document)
    else:
        _print(document)
    if not compiled.is_replayable:
        raise typer.Exit(1)


def _document(compiled: Compiled, *, engine: str, executable: Path) -> dict[str, Any]:
    return {
        "engine": engine,
        "executable": str(executable),
        "versions": compiled.versions,
        "replayable": compiled.is_replayable,
        "reasons": list(compiled.reasons),
        "learned_answers": compiled.learned,
        "nodes": [
            {
                "unique_id": node.unique_id,
                "file": node.file,
                "traces": len(node.traces),
                "publish": _publish(node.standard),
            }
            for node in compiled.nodes
        ],
    }


def _publish(standard: Standard | None) -> str:
    """What becomes of a relation whose definition is unchanged."""
    if standard is not None and standard.kind == "view":
        return "kept"
    return "rows replaced" if standard is not None and standard.rows else "as dbt does"


def _print(document: dict[str, Any]) -> None:
    if document["replayable"]:
        print_table(
            ["node", "file", "published"],
            ([node["unique_id"], node["file"], node["publish"]] for node in document["nodes"]),
        )
        typer.echo(f"the project is replayed; answers learned: {document['learned_answers']}")
        return
    typer.echo("each refresh runs dbt itself, about a hundred times as dear, because:")
    for reason in document["reasons"]:
        typer.echo(f"  {' '.join(reason.split())}")
