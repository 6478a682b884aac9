"""`kiket-worker migrate`: bring the ledger's tables up to this release."""

import typer

from kiket_worker.cli.output import JsonOption, print_json
from kiket_worker.ledger.migrate import migrate as apply
from kiket_worker.settings import load_settings


def migrate(json: JsonOption = False) -> None:
    """Create or update the ledger's tables; safe to run again and from several places at once."""
    applied = apply(load_settings().database_url.get_secret_value())
    if json:
        print_json({"applied": applied})
    else:
        typer.echo(f"applied {', '.join(applied)}" if applied else "the ledger is up to date")
