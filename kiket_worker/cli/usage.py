"""`kiket-worker usage`: what an organisation has used."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from kiket_worker.cli.output import JsonOption, print_json, print_table
from kiket_worker.ledger import organizations
from kiket_worker.ledger import usage as ledger_usage
from kiket_worker.ledger.database import Database
from kiket_worker.settings import load_settings

_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


def usage(
    slug: str,
    since: Annotated[datetime | None, typer.Option(formats=_FORMATS, help="From here on (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(formats=_FORMATS, help="Up to here, not included (UTC).")] = None,
    json: JsonOption = False,
) -> None:
    """Usage by day and metric, newest day first."""
    with Database(load_settings().database_url.get_secret_value()) as database:
        organization = organizations.find(database, slug)
        days = ledger_usage.daily(
            database,
            organization.organization_id,
            start_at=since and since.replace(tzinfo=UTC),
            end_at=until and until.replace(tzinfo=UTC),
        )
    if json:
        print_json([asdict(day) | {"quantity": float(day.quantity)} for day in days])
    else:
        print_table(
            ["day", "metric", "quantity", "unit"], ([day.day, day.metric, day.quantity, day.unit] for day in days)
        )
