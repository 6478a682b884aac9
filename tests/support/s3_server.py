"""A server that answers whatever S3 is asked in one way: a refusal, as a rule."""

import http.server
import os

import pytest
from botocore.retries.standard import ExponentialBackoff


class S3Server(http.server.ThreadingHTTPServer):
    """Answers every request with one status and S3's XML for one error code, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self, status: int, code: str, words: str, headers: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = status
        self.answer = (f"<Error><Code>{code}</Code><Message>no</Message>{words}</Error>" if code else words).encode()
        self.headers = headers
        self.requests: list[dict[str, str]] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: S3Server

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        sent = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append(sent | {"method": self.command})
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.send_header("Content-Type", "application/xml")
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.server.answer)

    def do_GET(self) -> None:
        self.do_PUT()

    def do_HEAD(self) -> None:
        self.do_PUT()

    def do_POST(self) -> None:
        self.do_PUT()

    def log_message(self, *_: object) -> None:
        pass


def use_endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    # Otherwise boto3 asks the machine's cloud for credentials.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    # boto3 waits between its attempts for a random time, of up to 15 seconds together.
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0.01)
