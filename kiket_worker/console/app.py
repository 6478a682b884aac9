"""The console as one application: API and pages, behind the same checks."""

from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import PlainTextResponse

from kiket_worker.console.access import caller_of
from kiket_worker.console.api import PREFIX, events, organizations, runs, settings, usage
from kiket_worker.console.api.openapi import document_of
from kiket_worker.console.headers import BodyLimit, SecurityHeaders
from kiket_worker.console.pages import ROUTERS
from kiket_worker.console.pages.faults import is_of_pages, page_of
from kiket_worker.console.problems import Faults, install
from kiket_worker.console.services import Services
from kiket_worker.console.watching import Watch

_API = (organizations.router, settings.router, runs.router, events.router, usage.router)


def create_app(services: Services) -> FastAPI:
    """The application. It holds what it was given and no state of its own, so that several may serve one ledger."""
    app = FastAPI(
        title="Kiket analytics",
        openapi_url=None,  # Below, without the pages; and no page of documentation that loads others' scripts.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Telemetry is of runs; nothing of requests leaves the process by a variable of the framework's own.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.services = services
    app.state.watch = Watch(services.database, most=services.streams)
    api = APIRouter(prefix=PREFIX)
    for router in _API:
        api.include_router(router)
    app.include_router(api)

    @app.get(f"{PREFIX}/openapi.json", include_in_schema=False)
    def document() -> dict[str, Any]:
        """The API's document: the same for everybody, so that it needs no token."""
        return app.openapi()

    @app.get("/healthz", include_in_schema=False, response_class=PlainTextResponse)
    def alive() -> str:
        """Whether this process answers at all: for who starts it anew if not. It says nothing of the services."""
        return "ok\n"

    for router in ROUTERS:
        app.include_router(router, include_in_schema=False)
    install(app, lambda request: is_of_pages(request) or caller_of(request, services), page_of)
    app.openapi = _kept(app)  # type: ignore[method-assign]  # as FastAPI's documentation has it
    # The last one is the outermost.
    app.add_middleware(Faults, page=page_of)
    app.add_middleware(BodyLimit)
    app.add_middleware(SecurityHeaders)
    return app


def _kept(app: FastAPI) -> Any:
    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = document_of(app)
        return app.openapi_schema

    return openapi
