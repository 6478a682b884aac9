"""Stores: one suite for the directory and the bucket, and how each of them fails."""

import base64
import hashlib
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3
import moto.backends
import pytest

from kiket_worker.artifacts.directory import DirectoryStore
from kiket_worker.artifacts.s3 import S3Store
from kiket_worker.artifacts.store import S3Options, Store, open_store
from kiket_worker.errors import (
    ArtifactChanged,
    ArtifactsAccessDenied,
    ArtifactsBucketMissing,
    ArtifactsCredentialsExpired,
    ArtifactsRefused,
    ArtifactsRegionWrong,
    ArtifactsUnreachable,
    InvalidSetting,
    KiketError,
)
from kiket_worker.settings import S3Encryption
from tests.support.s3_server import S3Server, use_endpoint

MIB = 1024 * 1024
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


@pytest.fixture
def begin_upload(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> Callable[[str], None]:
    """Leave of an upload what one leaves that is killed in the middle: seven bytes."""

    def begin(key: str) -> None:
        bucket, _, name = store.location(key).removeprefix("s3://").partition("/")
        client = boto3.client("s3")
        upload = client.create_multipart_upload(Bucket=bucket, Key=name)["UploadId"]
        client.upload_part(Bucket=bucket, Key=name, UploadId=upload, PartNumber=1, Body=b"content")

    def begin_in_directory(key: str) -> None:
        part = (tmp_path / "store of artifacts" / key).parent / ".part-1"
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(b"content")

    return begin_in_directory if isinstance(store, DirectoryStore) else begin


def put(store: Store, key: str, file: Path, content: bytes | None = None) -> None:
    sha256 = hashlib.sha256(file.read_bytes() if content is None else content).hexdigest()
    store.put(key, file, sha256=sha256, content_type="application/json")


@pytest.fixture
def fill(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> Callable[[list[str]], None]:
    """Make many small files, without asking the server for each."""

    def fill(keys: list[str]) -> None:
        bucket, _, prefix = store.location("").removeprefix("s3://").partition("/")
        for key in keys:
            moto.backends.get_backend("s3")["123456789012"]["aws"].put_object(bucket, prefix + key, b"x")

    def fill_directory(keys: list[str]) -> None:
        for key in keys:
            path = tmp_path / "store of artifacts" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")

    return fill_directory if isinstance(store, DirectoryStore) else fill


SIZES = pytest.mark.parametrize("size", [7, 20 * MIB], ids=["small", "in parts"])


class TestEveryStore:
    @pytest.mark.parametrize("key", KEYS)
    def test_what_is_put_is_got(self, store: Store, file: Callable[[bytes], Path], key: str) -> None:
        put(store, key, file(b"content"))
        assert store.get(key) == b"content"

    @pytest.mark.parametrize(
        "content",
        [b"", b"\x00\r\n\xff", os.urandom(8 * MIB), os.urandom(20 * MIB)],
        ids=["empty", "binary", "8 MiB", "20 MiB"],
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

    def test_a_large_file_is_read_in_pieces(self, store: Store, file: Callable[[bytes], Path]) -> None:
        content = os.urandom(3 * MIB)
        put(store, "a/file", file(content))
        with store.open("a/file") as source:
            pieces = list(iter(lambda: source.read(MIB), b""))
        assert b"".join(pieces) == content
        assert {len(piece) for piece in pieces} == {MIB}
        with pytest.raises(FileNotFoundError, match="a/nothing"), store.open("a/nothing"):
            pass

    @SIZES
    def test_a_file_that_was_changed_since_it_was_hashed_is_not_stored(
        self, store: Store, file: Callable[[bytes], Path], size: int
    ) -> None:
        content = os.urandom(size)
        path = file(content)
        for changed in (content[:-1] + bytes([content[-1] ^ 1]), content[:-1], content + b"x"):
            path.write_bytes(changed)
            with pytest.raises(ArtifactChanged, match=rf"{path} was changed while .*a/file") as caught:
                put(store, "a/file", path, content)
            assert caught.value.retryable
            assert list(store.list("")) == []
            assert list(store.unfinished()) == []

    @SIZES
    def test_a_changed_file_leaves_the_earlier_one_as_it_was(
        self, store: Store, file: Callable[[bytes], Path], size: int
    ) -> None:
        put(store, "file", file(b"earlier"))
        with pytest.raises(ArtifactChanged):
            put(store, "file", file(os.urandom(size)), b"what was hashed")
        assert store.get("file") == b"earlier"

    def test_a_folder_is_listed_with_all_below_it_and_nothing_beside_it(
        self, store: Store, file: Callable[[bytes], Path]
    ) -> None:
        before = datetime.now(UTC) - timedelta(seconds=2)
        keys = ["acme/1/a", "acme/1/deep/er/ä ö", "acme/2/a", "acme-2/1/a", "acme.json", "zeta"]
        for number, key in enumerate(keys):
            put(store, key, file(bytes(number)))
        assert {stored.key: stored.size for stored in store.list("")} == {key: at for at, key in enumerate(keys)}
        assert [stored.key for stored in store.list("acme")] == ["acme/1/a", "acme/1/deep/er/ä ö", "acme/2/a"]
        assert [stored.key for stored in store.list("acme/1/deep")] == ["acme/1/deep/er/ä ö"]
        assert [stored.key for stored in store.list("acm")] == []
        assert all(before < stored.modified_at < datetime.now(UTC) + timedelta(seconds=2) for stored in store.list(""))

    def test_more_files_than_fit_a_request_are_listed_and_removed(
        self, store: Store, fill: Callable[..., None]
    ) -> None:
        keys = [f"many/{number:04}" for number in range(2100)]
        fill([*keys, "other"])
        assert [stored.key for stored in store.list("many")] == keys
        store.remove(keys)
        assert [stored.key for stored in store.list("")] == ["other"]

    def test_what_is_removed_is_gone_and_what_is_not_there_is_no_fault(
        self, store: Store, file: Callable[[bytes], Path]
    ) -> None:
        for key in ("acme/1/a", "acme/1/docs/b", "acme/2/a", "top"):
            put(store, key, file(b"content"))
        store.remove(["acme/1/docs/b", "acme/1/a", "acme/1/nothing", "no/folder/nothing", "top/below", "top"])
        assert [stored.key for stored in store.list("")] == ["acme/2/a"]
        store.remove([])
        put(store, "acme/1/a", file(b"again"))
        assert store.get("acme/1/a") == b"again"

    def test_unfinished_uploads_are_found_and_removed_and_are_no_files(
        self, store: Store, file: Callable[[bytes], Path], begin_upload: Callable[[str], None]
    ) -> None:
        put(store, "acme/1/a", file(b"content"))
        begin_upload("acme/1/b")
        begin_upload("acme/2/c")
        assert [stored.key for stored in store.list("")] == ["acme/1/a"]
        found = list(store.unfinished())
        assert [upload.key.rpartition("/")[0] for upload in found] == ["acme/1", "acme/2"]
        assert [upload.size for upload in found] == [7, 7]
        assert all(upload.begun_at.tzinfo for upload in found)
        store.discard(found[0])
        store.discard(found[0])
        assert list(store.unfinished()) == found[1:]
        assert store.get("acme/1/a") == b"content"


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
            writing = pool.submit(put, store, "file", fifo, new)
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
            store, file = DirectoryStore(pathlib.Path({str(root)!r})), pathlib.Path({str(source)!r})
            store.put({key!r}, file, sha256={source.name!r}, content_type="x/y")
        except ArtifactsRefused as fault:
            print(f"ArtifactsRefused: {{fault}}")
        """
    )


class TestS3:
    def test_an_object_has_its_content_type_and_encoding(
        self, s3_bucket: str, tmp_path: Path, file: Callable[[bytes], Path]
    ) -> None:
        path = file(b"x")
        store = S3Store(s3_bucket, "typed")
        store.put("a", path, sha256=path.name, content_type="application/json", encoding="gzip")
        store.put("b", path, sha256=path.name, content_type="text/html")
        packed, plain = (boto3.client("s3").head_object(Bucket=s3_bucket, Key=f"typed/{key}") for key in "ab")
        assert (packed["ContentType"], packed["ContentEncoding"]) == ("application/json", "gzip")
        assert plain["ContentType"] == "text/html"
        assert "ContentEncoding" not in plain

    def test_the_server_is_told_the_checksum_and_no_other(
        self, answering: Callable[[int, str], S3Server], file: Callable[[bytes], Path]
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
        ("status", "code", "kind", "remedy"),
        [
            (403, "AccessDenied", ArtifactsAccessDenied, r"credentials of AWS_\*.*ARTIFACTS_URL"),
            (403, "SignatureDoesNotMatch", ArtifactsAccessDenied, r"credentials of AWS_\*.*ARTIFACTS_URL"),
            (404, "NoSuchBucket", ArtifactsBucketMissing, "make the bucket, or name another one in ARTIFACTS_URL"),
            (400, "ExpiredToken", ArtifactsCredentialsExpired, r"AWS_\* have run out; they have to be renewed"),
            (400, "BadDigest", ArtifactChanged, "what arrived is not what was sent"),
            (400, "AuthorizationHeaderMalformed", ArtifactsRegionWrong, "another region; set AWS_DEFAULT_REGION"),
            (400, "KeyTooLongError", ArtifactsRefused, r"see ARTIFACTS_URL and AWS_\*"),
        ],
    )
    def test_a_refusal_has_its_kind_and_its_remedy_and_is_not_asked_again(
        self,
        answering: Callable[..., S3Server],
        file: Callable[[bytes], Path],
        status: int,
        code: str,
        kind: type[KiketError],
        remedy: str,
    ) -> None:
        server = answering(status, code)
        store = S3Store("bucket", "p")
        with pytest.raises(KiketError, match=rf"s3://bucket/p/key .*{code} \({status}\).*{remedy}") as caught:
            put(store, "key", file(b"content"))
        assert type(caught.value) is kind
        # Those that somebody else renews, or that are another time another.
        assert caught.value.retryable is (kind in {ArtifactsCredentialsExpired, ArtifactChanged})
        assert sum(request["method"] == "PUT" for request in server.requests) == 1
        for action in (lambda: store.get("key"), lambda: list(store.list("")), lambda: store.remove(["key"])):
            with pytest.raises(kind, match=code):
                action()

    @pytest.mark.parametrize(("status", "code"), [(301, "PermanentRedirect"), (400, "AuthorizationHeaderMalformed")])
    @pytest.mark.parametrize("told", ["in the answer", "in a header"])
    def test_the_region_that_the_bucket_is_in_is_named(
        self, answering: Callable[..., S3Server], file: Callable[[bytes], Path], status: int, code: str, told: str
    ) -> None:
        answering(
            status,
            code,
            words="<Region>eu-north-1</Region>" if told == "in the answer" else "",
            headers={"x-amz-bucket-region": "eu-north-1"} if told == "in a header" else {},
        )
        with pytest.raises(ArtifactsRegionWrong, match="is in eu-north-1; set AWS_DEFAULT_REGION to eu-north-1"):
            put(S3Store("bucket", "p"), "key", file(b"content"))

    def test_a_server_that_redirects_whatever_it_is_asked_is_told_in_one_line(
        self, answering: Callable[..., S3Server], file: Callable[[bytes], Path]
    ) -> None:
        answering(301, "")
        with pytest.raises(ArtifactsRegionWrong, match=r"redirects every request.*AWS_ENDPOINT_URL_S3") as caught:
            put(S3Store("bucket", "p"), "key", file(b"content"))
        assert len(str(caught.value).splitlines()) == 1

    def test_one_object_that_may_not_be_removed_is_named(self, answering: Callable[..., S3Server]) -> None:
        refused = "<DeleteResult><Error><Key>p/b</Key><Code>AccessDenied</Code></Error></DeleteResult>"
        answering(200, "", words=refused)
        with pytest.raises(ArtifactsAccessDenied, match="s3://bucket/p/b cannot be removed"):
            S3Store("bucket", "p").remove(["a", "b"])

    def test_a_store_that_lists_in_no_order_is_refused(self, answering: Callable[..., S3Server]) -> None:
        one = "<Contents><Key>p/%s</Key><Size>1</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
        answering(200, "", words=f"<ListBucketResult>{one % 'b'}{one % 'a'}</ListBucketResult>")
        with pytest.raises(ArtifactsRefused, match="s3://bucket/p/ lists its objects in no order"):
            list(S3Store("bucket", "p").list(""))

    def test_every_part_of_a_large_file_has_a_checksum_that_the_server_can_compare(
        self, s3_bucket: str, file: Callable[[bytes], Path]
    ) -> None:
        store, content = S3Store(s3_bucket, "parts"), os.urandom(20 * MIB)
        sent: dict[str, tuple[int, str | None]] = {}

        def note(request: Any, **_: Any) -> None:
            body = request.body if isinstance(request.body, bytes) else request.body.read()
            if not isinstance(request.body, bytes):
                request.body.seek(0)
            digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
            told = request.headers.get("x-amz-checksum-sha256")
            sent[request.url.partition("partNumber=")[2][:1]] = (
                len(body),
                "right" if told == digest.encode() else told,
            )

        store._client.meta.events.register("before-send.s3.UploadPart", note)
        put(store, "key", file(content))
        assert sent == {"1": (8 * MIB, "right"), "2": (8 * MIB, "right"), "3": (4 * MIB, "right")}
        assert store.get("key") == content

    @SIZES
    def test_objects_are_encrypted_and_classed_as_the_settings_say(
        self, s3_bucket: str, file: Callable[[bytes], Path], size: int
    ) -> None:
        options = S3Options(S3Encryption.KMS, "alias/kiket", "STANDARD_IA")
        put(open_store(f"s3://{s3_bucket}/optional", options), "key", file(os.urandom(size)))
        found = boto3.client("s3").head_object(Bucket=s3_bucket, Key="optional/key")
        assert (found["ServerSideEncryption"], found["SSEKMSKeyId"]) == ("aws:kms", "alias/kiket")
        assert found["StorageClass"] == "STANDARD_IA"

    @pytest.mark.parametrize(
        ("url", "options", "words"),
        [
            ("s3://bucket", S3Options(kms_key="alias/kiket"), "KIKET_S3_KMS_KEY .*set KIKET_S3_ENCRYPTION to aws:kms"),
            ("s3://bucket", S3Options(S3Encryption.S3, "alias/kiket"), "KIKET_S3_KMS_KEY"),
            ("file:///var", S3Options(S3Encryption.S3), "ARTIFACTS_URL is a directory"),
            ("file:///var", S3Options(storage_class="STANDARD_IA"), "ARTIFACTS_URL is a directory"),
        ],
    )
    def test_options_that_would_do_nothing_are_a_wrong_setting(self, url: str, options: S3Options, words: str) -> None:
        with pytest.raises(InvalidSetting, match=words):
            open_store(url, options)

    @pytest.mark.parametrize(("status", "code"), [(500, "InternalError"), (503, "SlowDown"), (400, "RequestTimeout")])
    def test_a_server_in_trouble_is_asked_again_and_then_counts_as_unreachable(
        self, answering: Callable[[int, str], S3Server], file: Callable[[bytes], Path], status: int, code: str
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
            use_endpoint(monkeypatch, address)
            with _bounded(seconds=10), pytest.raises(ArtifactsUnreachable, match=address):
                put(S3Store("bucket", "p"), "key", file(b"content"))

    def test_missing_credentials_are_named(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Callable[[bytes], Path]
    ) -> None:
        use_endpoint(monkeypatch, "http://127.0.0.1:9")
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
        use_endpoint(monkeypatch, "http://127.0.0.1:9")
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
        use_endpoint(monkeypatch, "http://127.0.0.1:9")
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
