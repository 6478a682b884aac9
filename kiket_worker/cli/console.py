"""`kiket-worker console`: the API and the pages."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from kiket_worker.artifacts.store import store_of
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.ledger import connections
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.level import check_level
from kiket_worker.queue.depths import queue_depths
from kiket_worker.queue.waking import wake_all
from kiket_worker.settings import IsolationMode, Settings, host_and_port, load_settings
from kiket_worker.telemetry.logs import set_up_logs
from kiket_worker.tenants.keys import TenantKeys
from kiket_worker.tenants.twins import Twins

if TYPE_CHECKING:
    from kiket_worker.definitions.dashboards.preview import Previews


def console(
    host: Annotated[
        str | None, typer.Option(help="Where to answer; of KIKET_CONSOLE_ADDRESS unless given.", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="At which port; 0 takes any. Of KIKET_CONSOLE_ADDRESS unless given.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Answer the API and the pages over HTTP until a signal comes. TLS is a reverse proxy's part."""
    set_up_logs()
    settings = load_settings()
    # Libraries of the web: half a second, which no other command waits for.
    from kiket_worker.console.app import create_app  # noqa: PLC0415
    from kiket_worker.console.server import serve  # noqa: PLC0415
    from kiket_worker.console.services import Services  # noqa: PLC0415
    from kiket_worker.console.waking import Waker  # noqa: PLC0415
    from kiket_worker.monitoring.question import Question  # noqa: PLC0415

    own_host, own_port = host_and_port(settings.console_address)
    address = f"{_bracketed(own_host if host is None else host)}:{own_port if port is None else port}"
    with Database(settings.database_url.get_secret_value(), max_connections=connections.OF_A_CONSOLE) as database:
        check_level(database)

        def publish(organization_ids: Sequence[int]) -> None:
            if not settings.in_one_process:  # There the process that has the queue finds the run in the ledger.
                wake_all(settings, database, organization_ids)

        with Waker(publish) as waker:
            services = Services(
                database=database,
                store=store_of(settings),
                wake=waker.wake,
                depths=Question(lambda: queue_depths(settings)).answer,
                prices=settings.prices,
                streams=settings.console_streams,
                previews=_previews(settings, database),
            )
            with services.overview:
                serve(create_app(services), address, proxies=settings.console_proxies)


def _previews(settings: Settings, database: Database) -> "Previews | None":
    """Who draws dashboards; nobody where organisations have no roles, or their passwords cannot be derived here."""
    from kiket_worker.definitions.dashboards.preview import Previews  # noqa: PLC0415

    if settings.isolation is IsolationMode.SHARED or settings.tenant_keys is None:
        return None
    address = DbtConnection.from_settings(settings).address
    return Previews(Twins(database, TenantKeys.from_settings(settings), address), settings.dbt_shared_schema)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
