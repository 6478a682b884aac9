"""`kiket-worker dead-letters`: look at refused messages, send them again, remove them."""

from typing import Annotated
from uuid import UUID

import typer

from kiket_worker.cli.output import JsonOption, print_json, print_table
from kiket_worker.errors import UsageError
from kiket_worker.queue import dead_letters
from kiket_worker.queue.dead_letters import StoredLetter
from kiket_worker.settings import Settings, load_settings
from kiket_worker.telemetry.logs import silence_logs

_SHOWN_CHARACTERS = 100

app = typer.Typer(help="Look at refused messages, send them again, remove them.", no_args_is_help=True)

_Ids = Annotated[list[UUID] | None, typer.Argument(metavar="ID...", show_default=False, help="As `list` shows them.")]


@app.command("list")
def list_letters(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 100,
    json: JsonOption = False,
) -> None:
    """Dead letters, newest first."""
    found = dead_letters.list_newest(_settings(), limit)
    if json:
        print_json([_document(letter) for letter in found])
    else:
        print_table(["id", "received", "reason", "body"], (_row(letter) for letter in found))


@app.command("replay")
def replay_letters(
    ids: _Ids = None,
    everything: Annotated[bool, typer.Option("--all", help="Every one that is there now.")] = False,
) -> None:
    """Publish messages again, as requests, and remove them from the dead letters."""
    chosen = _chosen(ids, everything)
    typer.echo(f"replayed: {dead_letters.replay(_settings(), chosen)}")


@app.command("drop")
def drop_letters(
    ids: _Ids = None,
    everything: Annotated[bool, typer.Option("--all", help="Every one that is there now.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --all, do not ask.")] = False,
) -> None:
    """Remove messages for good."""
    chosen, settings = _chosen(ids, everything), _settings()
    if chosen is None and not yes:
        # What arrives while the question stands was not asked about, and stays.
        chosen = dead_letters.list_ids(settings)
        if chosen:
            typer.confirm(f"Drop {len(chosen)} dead letters for good?", abort=True, err=True)
    typer.echo(f"dropped: {dead_letters.drop(settings, chosen)}")


def _settings() -> Settings:
    silence_logs()
    return load_settings()


def _chosen(ids: list[UUID] | None, everything: bool) -> list[UUID] | None:
    """The ids, or None for everything."""
    if bool(ids) is everything:
        raise UsageError("give either ids, which `kiket-worker dead-letters list` shows, or --all")
    return ids or None


def _document(letter: StoredLetter) -> dict[str, object]:
    return {
        "id": letter.letter_id,
        "reason": letter.reason,
        "received_at": letter.received_at,
        "body": letter.body.decode(errors="replace"),
    }


def _row(letter: StoredLetter) -> list[object]:
    return [letter.letter_id, letter.received_at, _line(letter.reason), _line(letter.body.decode(errors="replace"))]


def _line(text: str) -> str:
    """The beginning of a text, without what a terminal would obey."""
    shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in shown)
