"""Stores: one suite for the directory and the bucket, and how each of them fails."""

import base64
import hashlib
import http.server
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

import boto3
import pytest
from botocore.retries.standard import ExponentialBackoff

from kiket_worker.artifacts.directory import DirectoryStore
from kiket_worker.artifacts.s3 import S3Store
from kiket_worker.artifacts.store import Store, open_store
from kiket_worker.errors import ArtifactsRefused, ArtifactsUnreachable, InvalidSetting

KEYS = ["manifest.json", "acme/run/1/index.json", "with space/ä ü/日本.json", "100%/a+b&c=d", "a?b#c/d"]


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store of each kind, empty."""
    if request.param == "directory":
        return open_store((tmp_path / "store of artifacts").as_uri())
    return open_store(f"s3://{request.getfixturevalue('s3_bucket')}/{tmp_path.name}")


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        path = tmp_path / hashlib.sha256(content).hexdigest()
        path.write_bytes(content)
        return path

    return write


def put(store: Store, key: str, file: Path) -> None:
    store.put(key, file, content_type="application/json")


class TestEveryStore:
    @pytest.mark.parametrize("key", KEYS)
    def test_what_is_put_is_got(self, store: Store, file: Callable[[bytes], Path], key: str) -> None:
        put(store, key, file(b"content"))
        assert store.get(key) == b"content"

    @pytest.mark.parametrize(
        "content", [b"", b"\x00\r\n\xff", os.urandom(10 * 1024 * 1024)], ids=["empty", "binary", "10 MiB"]
    )
    def test_the_bytes_are_the_same(self, store: Store, file: Callable[[bytes], Path], content: bytes) -> None:
        put(store, "file", file(content))
        assert store.get("file") == content

    def test_a_second_file_takes_the_place_of_the_first(self, store: Store, file: Callable[[bytes], Path]) -> None:
        put(store, "a/file", file(b"a long first content"))
        put(store, "a/file", file(b"second"))
        assert store.get("a/file") == b"second"

    @pytest.mark.parametrize("key", ["nothing", "no/folder/nothing", "a", "a/file/below"])
    def test_a_key_that_was_never_put_is_not_found(self, store: Store, file: Callable[[bytes], Path], key: str) -> None:
        put(store, "a/file", file(b"content"))
        with pytest.raises(FileNotFoundError, match=key):
            store.get(key)

    @pytest.mark.parametrize("key", KEYS)
    def test_a_location_is_a_url_that_ends_with_the_key(self, store: Store, key: str) -> None:
        location = store.location(key)
        assert urlsplit(location).scheme in {"file", "s3"}
        assert unquote(location).endswith(f"/{unquote(key)}")

    def test_files_can_be_put_at_the_same_time(self, store: Store, file: Callable[[bytes], Path]) -> None:
        contents = {f"folder/{number}": os.urandom(20_000) for number in range(16)}
        paths = {key: file(content) for key, content in contents.items()}
        barrier = threading.Barrier(8)

        def put_some(keys: list[str]) -> None:
            barrier.wait(20)
            for key in keys:
                put(store, key, paths[key])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(put_some, [list(contents)[number::8] for number in range(8)]))
        assert {key: store.get(key) for key in contents} == contents


class TestDirectory:
    def test_a_writer_that_is_killed_leaves_no_file_under_the_name(self, tmp_path: Path) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        writer = subprocess.Popen(
            [sys.executable, "-c", _put_script(tmp_path / "store", "acme/manifest.json", fifo)], text=True
        )
        # The pipe's capacity is less than what is written: when this returns, the writer has begun to copy.
        with fifo.open("wb", buffering=0) as pipe:
            pipe.write(os.urandom(1024 * 1024))
            writer.send_signal(signal.SIGKILL)
            writer.wait(20)
        store = DirectoryStore(tmp_path / "store")
        parts = list((tmp_path / "store" / "acme").iterdir())
        assert len(parts) == 1, "the writer was to be killed in the middle"
        assert parts[0].name.startswith(".part-")
        with pytest.raises(FileNotFoundError):
            store.get("acme/manifest.json")
        source = tmp_path / "source"
        source.write_bytes(b"later")
        put(store, "acme/manifest.json", source)
        assert store.get("acme/manifest.json") == b"later"

    def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(self, tmp_path: Path) -> None:
        store = DirectoryStore(tmp_path / "store")
        old = tmp_path / "old"
        old.write_bytes(b"old")
        put(store, "file", old)
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        new = os.urandom(1024 * 1024)
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(put, store, "file", fifo)
            with fifo.open("wb", buffering=0) as pipe:
                pipe.write(new)
                assert store.get("file") == b"old"
            writing.result(20)
        assert store.get("file") == new

    def test_a_file_in_the_way_is_named(self, tmp_path: Path, file: Callable[[bytes], Path]) -> None:
        (tmp_path / "acme").write_text("not a folder")
        with pytest.raises(ArtifactsRefused, match=rf"{tmp_path}/acme/run/index\.json cannot be written: Not a dir"):
            put(DirectoryStore(tmp_path), "acme/run/index.json", file(b"content"))

    def test_a_folder_in_the_way_is_named_and_nothing_is_left(
        self, tmp_path: Path, file: Callable[[bytes], Path]
    ) -> None:
        root = tmp_path / "store"
        (root / "index.json").mkdir(parents=True)
        with pytest.raises(ArtifactsRefused, match=rf"{root}/index\.json cannot be written: Is a directory"):
            put(DirectoryStore(root), "index.json", file(b"content"))
        assert [path.name for path in root.iterdir()] == ["index.json"]

    def test_a_full_disk_is_named_and_nothing_is_left(self, tmp_path: Path, file: Callable[[bytes], Path]) -> None:
        # A limit on the size of files stands for the disk's: the write fails in the middle, with bytes written before.
        outcome = subprocess.run(
            [sys.executable, "-c", _put_script(tmp_path / "store", "acme/file", file(os.urandom(1024 * 1024)))],
            check=False,
            preexec_fn=_limit_files_to_100_kb,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert (
            outcome.stdout.strip()
            == f"ArtifactsRefused: artifact {tmp_path}/store/acme/file cannot be written: File too large"
        )
        assert list((tmp_path / "store" / "acme").iterdir()) == []

    def test_a_folder_without_the_right_to_write_is_named(self, tmp_path: Path, file: Callable[[bytes], Path]) -> None:
        root = tmp_path / "store"
        root.mkdir(mode=0o555)
        script = _put_script(root, "acme/file", file(b"content"), user=65534 if os.geteuid() == 0 else None)
        outcome = subprocess.run(
            [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=30
        )
        assert outcome.stdout.startswith(f"ArtifactsRefused: artifact {root}/acme/file cannot be written: Permission d")
        assert list(root.iterdir()) == []


def _limit_files_to_100_kb() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def _put_script(root: Path, key: str, source: Path, user: int | None = None) -> str:
    return textwrap.dedent(
        f"""
        import os, pathlib
        from kiket_worker.artifacts.directory import DirectoryStore
        from kiket_worker.errors import ArtifactsRefused
        if {user}:
            os.setuid({user})
        try:
            DirectoryStore(pathlib.Path({str(root)!r})).put({key!r}, pathlib.Path({str(source)!r}), content_type="x/y")
        except ArtifactsRefused as fault:
            print(f"ArtifactsRefused: {{fault}}")
        """
    )


class _Server(http.server.ThreadingHTTPServer):
    """Answers every request with one status and S3's XML for one error code, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self, status: int, code: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = status
        self.answer = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode() if code else b""
        self.requests: list[dict[str, str]] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append({name.lower(): value for name, value in self.headers.items()})
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.send_header("Content-Type", "application/xml")
        self.end_headers()
        self.wfile.write(self.server.answer)

    def do_GET(self) -> None:
        self.do_PUT()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, str], _Server]]:
    """Start a server that answers everything so, and let S3 stores find it."""
    servers = []

    def start(status: int, code: str) -> _Server:
        server = _Server(status, code)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        _use_endpoint(monkeypatch, f"http://127.0.0.1:{server.server_port}")
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _use_endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    # Otherwise boto3 asks the machine's cloud for credentials.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    # boto3 waits between its attempts for a random time, of up to 15 seconds together.
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0.01)


class TestS3:
    def test_an_object_has_its_content_type_and_encoding(
        self, s3_bucket: str, tmp_path: Path, file: Callable[[bytes], Path]
    ) -> None:
        S3Store(s3_bucket, "typed").put("a", file(b"x"), content_type="application/json", encoding="gzip")
        S3Store(s3_bucket, "typed").put("b", file(b"x"), content_type="text/html")
        packed, plain = (boto3.client("s3").head_object(Bucket=s3_bucket, Key=f"typed/{key}") for key in "ab")
        assert (packed["ContentType"], packed["ContentEncoding"]) == ("application/json", "gzip")
        assert plain["ContentType"] == "text/html"
        assert "ContentEncoding" not in plain

    def test_the_server_is_told_the_checksum_and_no_other(
        self, answering: Callable[[int, str], _Server], file: Callable[[bytes], Path]
    ) -> None:
        server = answering(200, "")
        put(S3Store("bucket", ""), "key", file(b"content"))
        sent = {name: value for name, value in server.requests[0].items() if name.startswith("x-amz-checksum-")}
        assert sent == {"x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(b"content").digest()).decode()}

    def test_an_object_keeps_its_checksum(self, s3_bucket: str, file: Callable[[bytes], Path]) -> None:
        put(S3Store(s3_bucket, "summed"), "key", file(b"content"))
        found = boto3.client("s3").head_object(Bucket=s3_bucket, Key="summed/key", ChecksumMode="ENABLED")
        assert base64.b64decode(found["ChecksumSHA256"]) == hashlib.sha256(b"content").digest()

    def test_the_prefix_stands_before_every_key(self, s3_bucket: str, file: Callable[[bytes], Path]) -> None:
        put(open_store(f"s3://{s3_bucket}/deep/pre%20fix/"), "key", file(b"content"))
        put(open_store(f"s3://{s3_bucket}"), "top-key", file(b"content"))
        for key in ("deep/pre fix/key", "top-key"):
            assert boto3.client("s3").head_object(Bucket=s3_bucket, Key=key)["ContentLength"] == 7

    def test_a_missing_bucket_refuses(self, s3_bucket: str, file: Callable[[bytes], Path]) -> None:
        store = S3Store("no-such-bucket", "p")
        with pytest.raises(ArtifactsRefused, match=r"s3://no-such-bucket/p/key .*NoSuchBucket \(404\).*ARTIFACTS_URL"):
            put(store, "key", file(b"content"))
        with pytest.raises(ArtifactsRefused, match="NoSuchBucket"):
            store.get("key")

    @pytest.mark.parametrize(
        ("status", "code"),
        [(403, "AccessDenied"), (403, "SignatureDoesNotMatch"), (400, "ExpiredToken"), (400, "BadDigest")],
    )
    def test_a_refusal_is_not_retried(
        self, answering: Callable[[int, str], _Server], file: Callable[[bytes], Path], status: int, code: str
    ) -> None:
        server = answering(status, code)
        store = S3Store("bucket", "p")
        with pytest.raises(ArtifactsRefused, match=rf"s3://bucket/p/key .*{code} \({status}\).*AWS_\*") as caught:
            put(store, "key", file(b"content"))
        assert not caught.value.retryable
        assert len(server.requests) == 1
        with pytest.raises(ArtifactsRefused, match=code):
            store.get("key")

    @pytest.mark.parametrize(("status", "code"), [(500, "InternalError"), (503, "SlowDown"), (400, "RequestTimeout")])
    def test_a_server_in_trouble_is_asked_again_and_then_counts_as_unreachable(
        self, answering: Callable[[int, str], _Server], file: Callable[[bytes], Path], status: int, code: str
    ) -> None:
        server = answering(status, code)
        with _bounded(seconds=10), pytest.raises(ArtifactsUnreachable, match=f"s3://bucket/p/key .*{code}") as caught:
            put(S3Store("bucket", "p"), "key", file(b"content"))
        assert caught.value.retryable
        assert 2 <= len(server.requests) <= 5

    def test_refused_connections_are_told_in_bounded_time(
        self, monkeypatch: pytest.MonkeyPatch, file: Callable[[bytes], Path]
    ) -> None:
        with socket.socket() as nobody_listens:
            nobody_listens.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{nobody_listens.getsockname()[1]}"
            _use_endpoint(monkeypatch, address)
            with _bounded(seconds=10), pytest.raises(ArtifactsUnreachable, match=address):
                put(S3Store("bucket", "p"), "key", file(b"content"))

    def test_missing_credentials_are_named(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Callable[[bytes], Path]
    ) -> None:
        _use_endpoint(monkeypatch, "http://127.0.0.1:9")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        with _bounded(seconds=10), pytest.raises(ArtifactsRefused, match=r"credentials.*AWS_\*"):
            put(S3Store("bucket", "p"), "key", file(b"content"))

    @pytest.mark.parametrize(
        ("name", "value"),
        [("AWS_SECRET_ACCESS_KEY", None), ("AWS_PROFILE", "nobody"), ("AWS_ENDPOINT_URL_S3", "not a URL")],
    )
    def test_variables_that_boto3_cannot_use_are_a_wrong_setting(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
    ) -> None:
        _use_endpoint(monkeypatch, "http://127.0.0.1:9")
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
        with pytest.raises(InvalidSetting, match=r"AWS_\*") as caught:
            open_store("s3://bucket/prefix")
        assert "hunter2" not in str(caught.value)

    def test_an_impossible_bucket_is_told_in_one_line(
        self, monkeypatch: pytest.MonkeyPatch, file: Callable[[bytes], Path]
    ) -> None:
        _use_endpoint(monkeypatch, "http://127.0.0.1:9")
        with pytest.raises(ArtifactsRefused, match="Invalid bucket name") as caught:
            put(open_store("s3://Not_a bucket/p"), "key", file(b"content"))
        assert len(str(caught.value).splitlines()) == 1


class _bounded:  # noqa: N801  # used as a word of the test
    """Fail when the block takes longer."""

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        assert time.monotonic() - self._began < self._seconds
