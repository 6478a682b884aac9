"""`kiket-worker tokens`: who may use the console and the API."""

import secrets
from dataclasses import asdict
from typing import Annotated
from uuid import UUID

import typer

from kiket_worker.cli.output import JsonOption, print_json, print_table
from kiket_worker.errors import UsageError
from kiket_worker.ledger import organizations
from kiket_worker.ledger import tokens as ledger_tokens
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.tokens import Scope
from kiket_worker.settings import load_settings

app = typer.Typer(help="Who may use the console and the API.", no_args_is_help=True)

_ORGANIZATION = f"{Scope.ORGANIZATION}:"


@app.command("create")
def create_token(
    scope: Annotated[str, typer.Option(help="`ops` for everything, or `organization:SLUG`.")],
    name: Annotated[str | None, typer.Option(help="Who or what it is for; shown by `tokens list`.")] = None,
    expires_days: Annotated[int, typer.Option(min=1, max=3650, help="Days until it opens nothing any more.")] = 90,
    json: JsonOption = False,
) -> None:
    """Make a token and print it: it is shown once, and only its digest is kept."""
    if scope != Scope.OPS and not scope.startswith(_ORGANIZATION):
        raise UsageError(f"there is no scope {scope!r}: --scope is ops, or organization:SLUG")
    with _database() as database:
        slug = scope.removeprefix(_ORGANIZATION) if scope != Scope.OPS else None
        organization_id = organizations.find(database, slug).organization_id if slug is not None else None
        token_id, secret = ledger_tokens.create(
            database,
            organization_id=organization_id,
            name=name,
            expires_days=expires_days,
            random_text=secrets.token_urlsafe,
        )
    if json:
        print_json({"token_id": token_id, "token": secret})
    else:
        typer.echo(secret)
        typer.echo(f"token {token_id}; it is shown only this once", err=True)


@app.command("list")
def list_tokens(json: JsonOption = False) -> None:
    """Every token, newest first, without its secret."""
    with _database() as database:
        found = ledger_tokens.newest(database)
    if json:
        print_json([asdict(token) for token in found])
    else:
        columns = ["token", "name", "scope", "organisation", "state", "created", "expires", "last used"]
        print_table(
            columns,
            (
                [
                    *(token.token_id, token.name, token.scope, token.organization, token.state),
                    *(token.created_at, token.expires_at, token.last_used_at),
                ]
                for token in found
            ),
        )


@app.command("revoke")
def revoke_token(token_id: UUID) -> None:
    """End a token. Whoever is signed in with it is out at the next request."""
    with _database() as database:
        ledger_tokens.revoke(database, token_id)
    typer.echo(f"token {token_id} is revoked")


def _database() -> Database:
    return Database(load_settings().database_url.get_secret_value())
