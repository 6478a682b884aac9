"""Artifacts in an S3 bucket, or in any server that speaks S3 (`AWS_ENDPOINT_URL_S3`)."""

import base64
import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from kiket_worker.artifacts.stored import Stored, Unfinished
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

_PUTS_AT_ONCE = 4
_CONFIG = Config(
    connect_timeout=5,
    read_timeout=60,
    retries={"mode": "standard", "max_attempts": 4},
    max_pool_connections=4 * _PUTS_AT_ONCE,
    # No checksum but those that are asked for: boto3's own default (CRC-64) is unknown to many servers. What is read is
    # compared with the index, by which damage has a name.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
# A file up to this size is held in memory and sent at once, a larger one in parts of the same size.
_PART_BYTES = 8 * 1024 * 1024
_PARTS_AT_ONCE = 2
# As many as S3 takes in one request.
_REMOVED_AT_ONCE = 1000

_WRONG_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
# S3's word for a checksum that is not that of the bytes which arrived, and MinIO's.
_OTHER_BYTES = {"BadDigest", "XAmzContentChecksumMismatch"}


class S3Store:
    """Objects under one prefix of a bucket. Credentials, region and endpoint are boto3's own variables (`AWS_*`)."""

    puts_at_once = _PUTS_AT_ONCE

    def __init__(
        self,
        bucket: str,
        prefix: str,
        *,
        encryption: str | None = None,
        kms_key: str | None = None,
        storage_class: str | None = None,
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        kept = {"ServerSideEncryption": encryption, "SSEKMSKeyId": kms_key, "StorageClass": storage_class}
        self._kept = {name: value for name, value in kept.items() if value}
        # A session of its own: boto3's default session is shared, and making clients from it is not thread-safe.
        try:
            self._client = boto3.session.Session().client("s3", config=_CONFIG)
        except (BotoCoreError, ValueError) as fault:
            raise InvalidSetting(f"ARTIFACTS_URL names a bucket, but AWS_* cannot be used: {fault}") from None

    def location(self, key: str) -> str:
        """See `Store.location`."""
        return f"s3://{self._bucket}/{self._prefix}{key}"

    def put(
        self,
        key: str,
        file: Path,
        *,
        sha256: str,
        content_type: str,
        encoding: str | None = None,
        completes_set: bool = False,  # whatever S3 has answered for is durable
    ) -> None:
        """See `Store.put`."""
        options = self._kept | {"ContentType": content_type} | ({"ContentEncoding": encoding} if encoding else {})
        with self._explained(f"artifact {self.location(key)} cannot be stored"), file.open("rb") as body:
            checked = _Checked(body, sha256, f"{file} was changed while {self.location(key)} was stored")
            if file.stat().st_size > _PART_BYTES:
                self._put_parts(key, checked, options)
            else:
                self._put_at_once(key, checked, sha256, options)

    def _put_at_once(self, key: str, checked: "_Checked", sha256: str, options: dict[str, str]) -> None:
        # In memory, so that what is sent is what was checked, even when it has to be sent again.
        content = b"".join(iter(lambda: checked.read(_PART_BYTES), b""))
        self._client.put_object(
            Bucket=self._bucket,
            Key=self._prefix + key,
            Body=content,
            # The server compares it with what it received: a damaged upload is refused and not stored.
            ChecksumAlgorithm="SHA256",
            ChecksumSHA256=base64.b64encode(bytes.fromhex(sha256)).decode(),
            **options,  # type: ignore[arg-type]  # the stubs know no mapping of optional parameters
        )

    def _put_parts(self, key: str, checked: "_Checked", options: dict[str, str]) -> None:
        """Send parts in parallel, each with its SHA-256, which the server compares; a failure takes all of them back.

        A server that speaks S3 knows no SHA-256 of the whole that was sent in parts. So parts are read one after the
        other, and the last read raises `ArtifactChanged` where the whole is another: then nothing is ever completed.
        """
        config = TransferConfig(
            multipart_threshold=1, multipart_chunksize=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE, use_threads=True
        )
        # boto3 would hold ten parts in memory.
        config.max_in_memory_upload_chunks = _PARTS_AT_ONCE
        self._client.upload_fileobj(
            cast("BinaryIO", checked),
            self._bucket,
            self._prefix + key,
            ExtraArgs=options | {"ChecksumAlgorithm": "SHA256"},
            Config=config,
        )

    def get(self, key: str) -> bytes:
        """See `Store.get`."""
        with self.open(key) as file:
            return file.read()

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """See `Store.open`."""
        with self._explained(f"artifact {self.location(key)} cannot be read"):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
            except self._client.exceptions.NoSuchKey:
                raise FileNotFoundError(self.location(key)) from None
            with answer["Body"] as body:
                yield cast("BinaryIO", body)

    def list(self, folder: str) -> Iterator[Stored]:
        """See `Store.list`."""
        prefix = f"{self._prefix}{folder}/" if folder else self._prefix
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        previous = b""
        for page in self._pages(pages, prefix):
            for found in page.get("Contents", []):
                key = found["Key"].encode()
                if key <= previous:
                    # As in Amazon's directory buckets: half a set would look like the whole of it.
                    raise ArtifactsRefused(
                        f"{self.location('')} lists its objects in no order, and its sets cannot be told from that"
                    )
                previous = key
                yield Stored(found["Key"].removeprefix(self._prefix), found["Size"], found["LastModified"])

    def remove(self, keys: Collection[str]) -> None:
        """See `Store.remove`."""
        names = [{"Key": self._prefix + key} for key in keys]
        for begin in range(0, len(names), _REMOVED_AT_ONCE):
            batch = names[begin : begin + _REMOVED_AT_ONCE]
            what = f"artifact {self.location(batch[0]['Key'].removeprefix(self._prefix))} cannot be removed"
            with self._explained(what):
                answer = self._client.delete_objects(
                    Bucket=self._bucket,
                    Delete={"Objects": batch, "Quiet": True},  # type: ignore[typeddict-item]  # a plain mapping
                    ChecksumAlgorithm="SHA256",
                )
            for refused in answer.get("Errors", []):
                code, location = refused.get("Code", "unknown"), f"s3://{self._bucket}/{refused.get('Key')}"
                raise _refusal(f"artifact {location} cannot be removed", code, 200, "")

    def unfinished(self) -> Iterator[Unfinished]:
        """See `Store.unfinished`."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=self._prefix)
        for page in self._pages(pages, self._prefix):
            for found in page.get("Uploads", []):
                size = self._parts_size(found["Key"], found["UploadId"])
                if size is not None:
                    key = found["Key"].removeprefix(self._prefix)
                    yield Unfinished(key, found["UploadId"], size, found["Initiated"])

    def discard(self, upload: Unfinished) -> None:
        """See `Store.discard`."""
        with self._explained(f"the unfinished upload of {self.location(upload.key)} cannot be removed"):
            try:
                self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=self._prefix + upload.key, UploadId=upload.upload
                )
            except self._client.exceptions.NoSuchUpload:
                return

    def _parts_size(self, name: str, upload: str) -> int | None:
        """Bytes of an unfinished upload; None for one that was finished or removed since it was listed."""
        pages = self._client.get_paginator("list_parts").paginate(Bucket=self._bucket, Key=name, UploadId=upload)
        try:
            sizes: Iterator[int] = (part["Size"] for page in self._pages(pages, name) for part in page.get("Parts", []))
            return sum(sizes)
        except FileNotFoundError:
            return None

    def _pages(self, pages: Any, name: str) -> Iterator[Any]:
        what = f"what is in s3://{self._bucket}/{name} cannot be listed"
        reading = iter(pages)
        while True:
            with self._explained(what):
                try:
                    page = next(reading)
                except StopIteration:
                    return
                except self._client.exceptions.NoSuchUpload:
                    raise FileNotFoundError(name) from None
            yield page

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Raise what boto3 says in the block by its name in the product."""
        try:
            yield
        except (ClientError, BotoCoreError) as fault:
            raise _explain(fault, what) from fault
        except RecursionError:
            # botocore asks a bucket that redirects for its region, and that question too, if it is redirected.
            raise ArtifactsRegionWrong(
                f"{what}: the store redirects every request and names no region; see AWS_ENDPOINT_URL_S3 (https?) "
                "and AWS_DEFAULT_REGION"
            ) from None


class _Checked:
    """A file that is read once, from its begin to its end, and raises at the end if it is not what it was.

    It cannot be sought in, by which boto3 knows to read it in one go.
    """

    def __init__(self, file: BinaryIO, sha256: str, complaint: str) -> None:
        self._file = file
        self._sha256 = sha256
        self._complaint = complaint
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self._digest.update(chunk)
        if not chunk and self._digest.hexdigest() != self._sha256:
            raise ArtifactChanged(f"{self._complaint}, so it is not stored")
        return chunk


def _explain(fault: ClientError | BotoCoreError, what: str) -> KiketError:
    """A refusal (3xx, 4xx) stays what it is however often one asks; anything else may pass."""
    if isinstance(fault, ClientError):
        answer = fault.response.get("ResponseMetadata", {})
        status = answer.get("HTTPStatusCode", 500)
        error = cast("dict[str, Any]", fault.response.get("Error", {}))
        code = error.get("Code", "unknown")
        if status < 500 and status not in (408, 429) and code != "RequestTimeout":
            region = error.get("Region") or answer.get("HTTPHeaders", {}).get("x-amz-bucket-region", "")
            return _refusal(what, code, status, region)
    reason = " ".join(str(fault).split())
    if isinstance(fault, NoCredentialsError | PartialCredentialsError | ParamValidationError):
        return ArtifactsRefused(f"{what}: {reason}; see ARTIFACTS_URL and AWS_*")
    return ArtifactsUnreachable(f"{what}: {reason}")


def _refusal(what: str, code: str, status: int, region: str) -> KiketError:
    answered = f"{what}: the store answered {code} ({status})"
    if code == "NoSuchBucket":
        return ArtifactsBucketMissing(f"{answered}; make the bucket, or name another one in ARTIFACTS_URL")
    if code in _WRONG_REGION or status == 301:
        wanted = f"the bucket is in {region}" if region else "the bucket is in another region"
        return ArtifactsRegionWrong(f"{answered}: {wanted}; set AWS_DEFAULT_REGION to {region or 'it'}")
    if code in _EXPIRED:
        return ArtifactsCredentialsExpired(
            f"{answered}: the credentials of AWS_* have run out; they have to be renewed"
        )
    if code in _OTHER_BYTES:
        return ArtifactChanged(f"{answered}: what arrived is not what was sent")
    if code == "AccessDenied" or status in (401, 403):
        return ArtifactsAccessDenied(
            f"{answered}; see that the credentials of AWS_* are right and may read, write, list and delete under "
            "ARTIFACTS_URL"
        )
    return ArtifactsRefused(f"{answered}; see ARTIFACTS_URL and AWS_*")
