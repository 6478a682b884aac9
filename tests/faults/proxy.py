"""A TCP proxy in front of a service: it passes, hangs, refuses, cuts, or loses one answer, as its test says."""

import socket
import struct
import threading
from contextlib import suppress
from typing import Self

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of zero seconds: closing sends a reset, as a crash does.


class _Link:
    """One client's connection and its continuation to the service."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.server: socket.socket | None = None
        self.saw_first = False
        self.losing = False

    def reset(self) -> None:
        for end in (self.client, self.server):
            if end is not None:
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    end.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Listens on a port of 127.0.0.1 in front of a TCP address or a unix socket."""

    def __init__(self, target: tuple[str, int] | str) -> None:
        self._target = target
        self._flowing = threading.Event()
        self._flowing.set()
        self._links: set[_Link] = set()
        self._lock = threading.Lock()
        self._to_lose: tuple[bytes, bytes] | None = None
        self.lost = threading.Event()
        self.port = 0
        self._listener: socket.socket | None = None
        self.restore()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._flowing.set()

    def restore(self) -> None:
        """Pass everything on, what was held back as well."""
        if self._listener is None:
            listener = socket.create_server(("127.0.0.1", self.port))
            self.port = listener.getsockname()[1]
            self._listener = listener
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        self._flowing.set()

    def hang(self) -> None:
        """Accept, and forward nothing in either direction; nothing is lost, as in a partition that heals."""
        self._flowing.clear()

    def cut(self) -> None:
        """Break every connection that there is; what was held back is lost."""
        with self._lock:
            links, self._links = self._links, set()
        for link in links:
            link.reset()

    def refuse(self) -> None:
        """Break every connection, and refuse new ones."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # Wakes the thread that accepts; closing would not.
            listener.close()
        self.cut()

    def lose_answer(self, first: bytes, then: bytes) -> None:
        """Once: on a connection that has sent `first`, forward `then`, swallow the answer to it, and break it."""
        self.lost.clear()
        self._to_lose = (first, then)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            link = _Link(client)
            with self._lock:
                self._links.add(link)
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: _Link) -> None:
        self._flowing.wait()
        try:
            if isinstance(self._target, str):
                link.server = socket.socket(socket.AF_UNIX)
                link.server.connect(self._target)
            else:
                link.server = socket.create_connection(self._target)
        except OSError:
            link.reset()
            link.client.close()
            return
        back = threading.Thread(target=self._pump, args=(link, link.server, link.client), daemon=True)
        back.start()
        self._pump(link, link.client, link.server)
        back.join()
        link.client.close()
        link.server.close()
        with self._lock:
            self._links.discard(link)

    def _pump(self, link: _Link, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(65536):
                self._flowing.wait()
                if source is link.client:
                    self._look(link, chunk)
                elif link.losing:
                    link.reset()
                    self.lost.set()
                    break
                sink.sendall(chunk)
        self._flowing.wait()
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _look(self, link: _Link, chunk: bytes) -> None:
        with self._lock:
            if self._to_lose is None:
                return
            first, then = self._to_lose
            if link.saw_first and then in chunk:
                link.losing = True
                self._to_lose = None
            link.saw_first = link.saw_first or first in chunk
