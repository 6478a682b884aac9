"""The console's HTTP server: uvicorn, at an address, until a signal comes."""

import contextlib
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from kiket_worker import events
from kiket_worker.errors import InvalidSetting
from kiket_worker.settings import host_and_port

# Requests in hand when the process is told to end. Streams of runs begin again elsewhere.
_GRACE_SECONDS = 5


def serve(app: FastAPI, address: str, *, proxies: str | None) -> None:
    """Answer at HOST:PORT until SIGTERM or SIGINT. Raises `InvalidSetting` where the address cannot be had.

    `proxies` are addresses or networks, with commas, whose `X-Forwarded-For` is believed.
    """
    listener = listen(address)
    host, port = listener.getsockname()[:2]
    found = f"[{host}]:{port}" if listener.family == socket.AF_INET6 else f"{host}:{port}"
    events.CONSOLE_STARTED.log(address=found)
    # uvicorn ends in order at a signal, and then raises it again for whoever handled it before.
    with contextlib.suppress(KeyboardInterrupt):
        server_of(app, proxies=proxies).run(sockets=[listener])


def server_of(app: FastAPI, *, proxies: str | None) -> uvicorn.Server:
    """The server, not yet running."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=proxies is not None,
        forwarded_allow_ips=proxies or "",
        timeout_graceful_shutdown=_GRACE_SECONDS,
        lifespan="off",
    )
    return _Server(config, app.state.watch.end)


class _Server(uvicorn.Server):
    """Ends what would go on as long as a run does, before it waits for requests in hand."""

    def __init__(self, config: uvicorn.Config, end_streams: Callable[[], None]) -> None:
        super().__init__(config)
        self._end_streams = end_streams

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server.shutdown`."""
        self._end_streams()
        await super().shutdown(sockets)


def listen(address: str) -> socket.socket:
    """Take an address. Raises `InvalidSetting`."""
    host, port = host_and_port(address)
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, where = found[0]
        # With its protocol: only then does asyncio send answers at once, and does not wait for acknowledgements.
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(256)
    except OSError as fault:
        raise InvalidSetting(
            f"KIKET_CONSOLE_ADDRESS: {address} cannot be listened at: {fault.strerror or fault}; name another port, or "
            "an address of this machine"
        ) from None
    return listener
