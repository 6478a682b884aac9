"""How much of requests is read, how often somebody may fail, and what every answer carries."""

import io
import json
import socket
import time

import httpx
import pytest
import uvicorn

from kiket_worker.console.headers import BODY_LIMIT_BYTES, BodyLimit
from kiket_worker.console.limits import FailureLimit
from kiket_worker.ledger import tokens
from kiket_worker.ledger.database import Database
from kiket_worker.telemetry.logs import set_up_logs
from tests.support.console import API, Console, Served, serving, serving_with

WRONG = tokens.PREFIX + "A" * 43
REFRESH = f"{API}/organizations/acme/refresh"


def events(log: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_who_fails_too_often_has_to_wait_and_is_told_how_long(console: Console) -> None:
    log = io.StringIO()
    set_up_logs(log)
    good, known = console.token(), console.token()
    with console.serving(failures=FailureLimit(failures=3, seconds=60)) as served:
        with served.with_token(known) as client:
            assert client.get(f"{API}/runs").status_code == 200
        with served.with_token(WRONG) as client:
            assert [client.get(f"{API}/runs").status_code for _ in range(5)] == [401, 401, 401, 429, 429]
            answer = client.get(f"{API}/runs")
        assert 0 < int(answer.headers["retry-after"]) <= 20
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["kind"] == "too_many_failures"
        # A good token that was not seen before has to wait as well, or waiting would tell which ones are good.
        with served.with_token(good) as client:
            assert client.get(f"{API}/runs").status_code == 429
        # Neighbours who are known go on.
        with served.with_token(known) as client:
            assert client.get(f"{API}/runs").status_code == 200
    limited = [event for event in events(log) if event["event"] == "access.limited"]
    assert [event["client"] for event in limited] == ["127.0.0.1"]
    assert WRONG not in log.getvalue()


def test_a_token_that_was_known_and_is_revoked_is_known_no_longer(console: Console, ledger: Database) -> None:
    with console.serving(failures=FailureLimit(failures=2, seconds=60)) as served, served.client() as client:
        assert client.get(f"{API}/runs").status_code == 200
        tokens.revoke(ledger, tokens.newest(ledger)[0].token_id)
        assert [client.get(f"{API}/runs").status_code for _ in range(4)] == [401, 401, 429, 429]


@pytest.mark.parametrize(("proxies", "expected"), [("127.0.0.1", "203.0.113.9"), (None, "127.0.0.1")])
def test_the_clients_address_is_a_trusted_proxys_word_only(
    console: Console, proxies: str | None, expected: str
) -> None:
    log = io.StringIO()
    set_up_logs(log)
    app = console.app(failures=FailureLimit(failures=1, seconds=60))
    with serving(app, proxies=proxies) as url:
        httpx.get(f"{url}{API}/runs", headers={"X-Forwarded-For": "203.0.113.9"})
    assert [event["client"] for event in events(log) if event["event"] == "access.limited"] == [expected]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_not_read(served: Served, chunked: bool) -> None:
    body = b'{"docs": true' + b" " * BODY_LIMIT_BYTES + b"}"
    with served.client() as client:
        answer = client.post(
            REFRESH,
            content=iter([body[:1000], body[1000:]]) if chunked else body,
            headers={"Content-Type": "application/json"},
        )
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert "content-security-policy" in answer.headers


def test_a_body_that_does_not_come_is_not_waited_for(console: Console) -> None:
    server = uvicorn.Server(uvicorn.Config(BodyLimit(console.app(), limit_seconds=0.2), log_config=None))
    with (
        serving_with(server) as url,
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=10) as connection,
    ):
        head = f"POST {REFRESH} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{{"
        connection.sendall(head.encode())
        began = time.monotonic()
        assert connection.recv(1000).startswith(b"HTTP/1.1 408")
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("path", [f"{API}/runs", f"{API}/nothing", "/", f"{API}/openapi.json", f"{API}/runs/x"])
def test_every_answer_has_the_security_headers_and_none_lets_others_in(served: Served, path: str) -> None:
    with served.client() as client:
        for answer in (client.get(path, headers={"Origin": "https://evil.example"}), client.options(path)):
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["referrer-policy"] == "same-origin"
            assert not [name for name in answer.headers if name.startswith("access-control-")]
            assert "server" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api", 404),
        ("GET", f"{API}/nothing", 404),
        ("DELETE", f"{API}/runs", 405),
        ("GET", REFRESH, 405),
        ("GET", f"{API}/runs/nonsense", 422),
        ("GET", f"{API}/runs?status=asleep", 422),
        ("GET", f"{API}/runs?organisation=acme", 422),
        ("GET", f"{API}/runs?since=yesterday", 422),
        ("GET", f"{API}/runs?since=2026-01-01T00:00:00", 422),
        ("GET", f"{API}/runs?cursor=x", 422),
        ("GET", f"{API}/organizations?cursor=WyJhIiwiYiJd", 422),
        ("GET", f"{API}/organizations?cursor=WyJcdTAwMDAiXQ", 422),
        ("GET", f"{API}/organizations?limit=0", 422),
        ("GET", f"{API}/organizations/%00", 404),
        ("GET", f"{API}/organizations/a%2Fb", 404),
        ("GET", f"{API}/runs?organization=%00", 404),
        ("GET", f"{API}/usage?group_by=year", 422),
    ],
)
def test_every_error_is_a_problem(served: Served, method: str, path: str, status: int) -> None:
    with served.client() as client:
        answer = client.request(method, path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"] == f"urn:kiket:problem:{problem['kind']}"
    assert problem["title"]
    assert problem["detail"].endswith(".")
    if status == 405:
        assert answer.headers["allow"]


def test_a_fault_of_ours_is_told_without_its_words(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    set_up_logs(log)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr("kiket_worker.console.api.runs.runs.page", fail)
    with console.serving() as served, served.client() as client:
        answer = client.get(f"{API}/runs")
    assert answer.status_code == 500
    assert answer.json()["kind"] == "internal"
    assert "hunter2" not in answer.text + log.getvalue()
    (told,) = [event for event in events(log) if event["event"] == "console.failed"]
    assert "RuntimeError" in str(told["error"])
    assert "Traceback" not in log.getvalue()


def test_a_ledger_that_is_away_is_503_and_names_no_host(
    console: Console, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with console.serving() as served, served.client() as client:
        assert client.get(f"{API}/runs").status_code == 200
        console.ledger.__exit__()
        answer = client.get(f"{API}/runs")
    assert answer.status_code in {500, 503}
    assert "postgres" not in answer.json()["detail"].lower()
