"""The HTTP server of a process: /metrics, /healthz and /readyz, and nothing else.

Each request has a thread of its own that is not waited for: a client that hangs keeps neither others nor the end of the
process waiting.
"""

import json
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from kiket_worker import events
from kiket_worker.errors import InvalidSetting
from kiket_worker.monitoring import readiness
from kiket_worker.monitoring.question import Question
from kiket_worker.monitoring.vitals import Vitals
from kiket_worker.settings import host_and_port

# A client that neither speaks nor listens for so long is left.
_SILENCE_SECONDS = 5


@dataclass(frozen=True)
class _Answer:
    status: HTTPStatus
    content_type: str
    body: bytes


class MonitoringServer:
    """Answers from `start` to `stop`; what it answers from may grow meanwhile."""

    def __init__(
        self, address: str, registry: CollectorRegistry, vitals: Vitals, services: Mapping[str, Question[Any]]
    ) -> None:
        """Take the address, HOST:PORT. Raises `InvalidSetting` where it cannot be had."""
        self._registry = registry
        self._vitals = vitals
        self._services = services
        paths = {"/metrics": self._metrics, "/healthz": self._health, "/readyz": self._ready}

        class Handler(_Handler):
            answers = paths

        self._server = _listen(address, Handler)

    def start(self) -> None:
        """Answer in the background."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        host, port = self._server.server_address[:2]
        name = f"[{host!s}]" if self._server.address_family == socket.AF_INET6 else str(host)
        events.MONITORING_STARTED.log(address=f"{name}:{port}")

    def stop(self) -> None:
        """Take no more requests."""
        self._server.shutdown()
        self._server.server_close()

    def _metrics(self, accept: str) -> _Answer:
        encode, content_type = choose_encoder(accept)
        return _Answer(HTTPStatus.OK, content_type, encode(self._registry))

    def _health(self, _accept: str) -> _Answer:
        dead = self._vitals.dead()
        return _document(not dead, {"alive": not dead} | ({"dead": dead} if dead else {}))

    def _ready(self, _accept: str) -> _Answer:
        needed = dict(self._services)
        missing = readiness.missing(needed)
        services = {
            name: {"ready": False, "reason": missing[name]} if name in missing else {"ready": True} for name in needed
        }
        return _document(not missing, {"ready": not missing, "services": services})


def _document(is_well: bool, document: dict[str, Any]) -> _Answer:  # noqa: FBT001  # what it is about
    status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
    return _Answer(status, "application/json", json.dumps(document).encode() + b"\n")


class _Handler(BaseHTTPRequestHandler):
    """GET and HEAD of the paths that there are."""

    answers: dict[str, Callable[[str], _Answer]]
    timeout = _SILENCE_SECONDS
    server_version = "kiket-worker"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with the body."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer without the body."""
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's name
        """Log no request: probes would be most of the log."""

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        find = self.answers.get(path)
        if find is None:
            found = _Answer(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"/metrics, /healthz, /readyz\n")
        else:
            try:
                found = find(self.headers.get("Accept", ""))
            except Exception as fault:  # Whoever asks has to see that this process does not know how it is.
                name = type(fault).__name__
                found = _Answer(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", f"{name}\n".encode())
        self.send_response(found.status)
        self.send_header("Content-Type", found.content_type)
        self.send_header("Content-Length", str(len(found.body)))
        self.end_headers()
        if with_body:
            self.wfile.write(found.body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_port = False  # Two processes would get a part of the requests each, and none would notice.
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that has gone: http.server would print a traceback between the events."""

    def server_bind(self) -> None:
        """Take the address without asking the resolver for this machine's name, as http.server does."""
        TCPServer.server_bind(self)


def _listen(address: str, handler: type[_Handler]) -> _Server:
    host, port = host_and_port(address)
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, where = found[0]
        server = type("Server", (_Server,), {"address_family": family})
        made: _Server = server(where, handler)
    except OSError as fault:
        raise InvalidSetting(
            f"KIKET_METRICS_ADDRESS: {address} cannot be listened at: {fault.strerror or fault}; name another "
            "port, or an address of this machine"
        ) from None
    return made
