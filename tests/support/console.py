"""The console in the test's own process: its services, tokens for every scope, and a client."""

import secrets
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from kiket_worker.artifacts.directory import DirectoryStore
from kiket_worker.console.app import create_app
from kiket_worker.console.server import listen, server_of
from kiket_worker.console.services import Services
from kiket_worker.ledger import tokens
from kiket_worker.ledger.database import Database

API = "/api/v1/analytics"
# Of clients that speak no TLS: else each reads the certificates of the world.
PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass
class Console:
    """One console over a ledger. `woken` are the organisations that it has had woken."""

    ledger: Database
    folder: Path
    woken: list[int] = field(default_factory=list)
    depths: Callable[[], Mapping[str, int]] = dict
    prices: dict[str, Decimal] = field(default_factory=lambda: {"analytics_dbt_run": Decimal("0.25")})
    streams: int = 10

    def services(self, **others: Any) -> Services:
        return Services(
            **{
                "database": self.ledger,
                "store": DirectoryStore(self.folder / "artifacts"),
                "wake": self.woken.append,
                "depths": self.depths,
                "prices": self.prices,
                "streams": self.streams,
            }
            | others
        )

    def app(self, **others: Any) -> FastAPI:
        return create_app(self.services(**others))

    def token(self, organization_id: int | None = None, **options: Any) -> str:
        """A new token: an operator's, or an organisation's."""
        return new_token(self.ledger, organization_id, **options)

    @contextmanager
    def serving(self, app: FastAPI | None = None, **others: Any) -> Iterator["Served"]:
        """The console as it answers over HTTP, until the block ends."""
        with serving(app or self.app(**others)) as url:
            yield Served(url, self)


@dataclass(frozen=True)
class Served:
    """A console that answers at a URL."""

    url: str
    console: Console

    def client(self, organization_id: int | None = None) -> httpx.Client:
        """A client with a token of its own, an operator's unless told."""
        return self.with_token(self.console.token(organization_id))

    def with_token(self, token: str | None) -> httpx.Client:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, verify=PLAIN)


@contextmanager
def serving(app: FastAPI, *, proxies: str | None = None) -> Iterator[str]:
    """Run the console's own server in a thread; give its URL."""
    with serving_with(server_of(app, proxies=proxies)) as url:
        yield url


@contextmanager
def serving_with(server: uvicorn.Server) -> Iterator[str]:
    """The same with a server that is made already."""
    listener = listen("127.0.0.1:0")
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
        assert not thread.is_alive()


def new_token(ledger: Database, organization_id: int | None = None, *, name: str | None = None) -> str:
    _, secret = tokens.create(
        ledger, organization_id=organization_id, name=name, expires_days=1, random_text=secrets.token_urlsafe
    )
    return secret
