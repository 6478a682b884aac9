"""`kiket-worker migrate`: bring the ledger's tables, and with --roles the database roles, up to this release."""

from typing import Annotated

import typer

from kiket_worker.cli.output import JsonOption, print_json
from kiket_worker.ledger.migrate import migrate as apply
from kiket_worker.settings import load_settings
from kiket_worker.tenants import roles as tenant_roles
from kiket_worker.tenants.gates import load_gates


def migrate(
    roles: Annotated[
        bool, typer.Option("--roles", help="Set up database roles and gate views too; DATABASE_URL is a superuser's.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Create or update the ledger's tables; safe to run again and from several places at once."""
    settings = load_settings()
    url = settings.database_url.get_secret_value()
    gates = load_gates(settings.gates_file) if roles else ()  # Read first: a list that is wrong changes nothing.
    applied = apply(url)
    done = tenant_roles.set_up(url, gates, shared_schema=settings.dbt_shared_schema) if roles else None
    if json:
        print_json({"applied": applied} | ({"gates": done.gates, "absent": done.absent} if done else {}))
        return
    typer.echo(f"applied {', '.join(applied)}" if applied else "the ledger is up to date")
    if done:
        typer.echo(f"roles are set up; gates: {', '.join(done.gates)}")
        for name in done.absent:
            typer.echo(f"no gate {name}: its raw table is not there")
