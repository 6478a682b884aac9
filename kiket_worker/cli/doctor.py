"""`kiket-worker doctor`: what is wrong, and what mends it."""

from typing import Annotated

import typer

from kiket_worker.artifacts.store import store_of
from kiket_worker.cli.output import JsonOption, print_json, print_table
from kiket_worker.dbt.bundle import core_bundle
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.doctor.capacity import examine_capacity
from kiket_worker.doctor.definitions import examine_definitions
from kiket_worker.doctor.finding import Finding, Severity, error
from kiket_worker.doctor.installation import examine_installation
from kiket_worker.doctor.organization import examine_organization
from kiket_worker.doctor.services import examine_services
from kiket_worker.errors import PostgresUnreachable
from kiket_worker.ledger import organizations
from kiket_worker.ledger.database import Database
from kiket_worker.settings import load_settings
from kiket_worker.telemetry.logs import silence_logs
from kiket_worker.tenants.gates import load_gates


def doctor(
    organization: Annotated[str | None, typer.Option(help="Look at this organisation too, by its slug.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="For how many workers connections have to suffice; for those seen lately unless given.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Say what is wrong with the installation, and with one organisation; exit 1 if something does not work.

    Looks at ledger, roles and gates, at Postgres, RabbitMQ and the artifact store, which gets a probe that is removed
    again, and at whether workers and connections suffice.
    """
    silence_logs()
    settings = load_settings()
    gates = load_gates(settings.gates_file)
    address = DbtConnection.from_settings(settings).address
    found: list[Finding] = []
    try:
        with Database(settings.database_url.get_secret_value()) as database:
            store = store_of(settings)
            found += examine_installation(settings, database, gates, address)
            found += examine_services(settings, database, store)
            if not _keeps_from_looking(found):
                found += examine_capacity(settings, database, workers=workers)
            if organization is not None and not _keeps_from_looking(found):
                one = organizations.find(database, organization)
                contents, lost = examine_definitions(database, store, core_bundle(), one)
                found += lost
                found += examine_organization(settings, database, one, gates, contents, address)
    except PostgresUnreachable as fault:
        if json:  # For programs, which read what else was found; people read the line that follows.
            remedy = "see that Postgres answers at DATABASE_URL, with that login and database"
            print_json([finding.document() for finding in [*found, error(fault.kind, str(fault), remedy)]])
        raise
    if json:
        print_json([finding.document() for finding in found])
    else:
        _print(found)
    if any(finding.severity is Severity.ERROR for finding in found):
        raise typer.Exit(1)


def _keeps_from_looking(found: list[Finding]) -> bool:
    return any(finding.kind in {"ledger_not_migrated", "ledger_forbidden", "roles_not_set_up"} for finding in found)


def _print(found: list[Finding]) -> None:
    if not found:
        typer.echo("nothing is wrong")
        return
    print_table(
        ["severity", "kind", "message", "remedy"],
        ([finding.severity, finding.kind, finding.message, finding.remedy] for finding in found),
    )
