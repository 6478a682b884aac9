"""Artifacts in an S3 bucket, or in any server that speaks S3 (`AWS_ENDPOINT_URL_S3`)."""

from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from kiket_worker.errors import ArtifactsRefused, ArtifactsUnreachable, InvalidSetting, KiketError

_CONFIG = Config(
    connect_timeout=5,
    read_timeout=60,
    retries={"mode": "standard", "max_attempts": 4},
    # No checksum but the one that `put` asks for: boto3's own default (CRC-64) is unknown to many servers.
    request_checksum_calculation="when_required",
)


class S3Store:
    """Objects under one prefix of a bucket. Credentials, region and endpoint are boto3's own variables (`AWS_*`)."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        # A session of its own: boto3's default session is shared, and making clients from it is not thread-safe.
        try:
            self._client = boto3.session.Session().client("s3", config=_CONFIG)
        except (BotoCoreError, ValueError) as fault:
            raise InvalidSetting(f"ARTIFACTS_URL names a bucket, but AWS_* cannot be used: {fault}") from None

    def location(self, key: str) -> str:
        """See `Store.location`."""
        return f"s3://{self._bucket}/{self._prefix}{key}"

    def put(self, key: str, file: Path, *, content_type: str, encoding: str | None = None) -> None:
        """See `Store.put`."""
        metadata = {"ContentType": content_type} | ({"ContentEncoding": encoding} if encoding else {})
        try:
            with file.open("rb") as body:
                self._client.put_object(
                    Bucket=self._bucket,
                    Key=self._prefix + key,
                    Body=body,
                    # The server compares it with what it received: a damaged upload is refused and not stored.
                    ChecksumAlgorithm="SHA256",
                    **metadata,  # type: ignore[arg-type]  # the stubs know no mapping of optional parameters
                )
        except (ClientError, BotoCoreError) as fault:
            raise self._explain(fault, f"artifact {self.location(key)} cannot be stored") from fault

    def get(self, key: str) -> bytes:
        """See `Store.get`."""
        try:
            return self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"].read()
        except self._client.exceptions.NoSuchKey:
            raise FileNotFoundError(self.location(key)) from None
        except (ClientError, BotoCoreError) as fault:
            raise self._explain(fault, f"artifact {self.location(key)} cannot be read") from fault

    def _explain(self, fault: Exception, what: str) -> KiketError:
        """A refusal (3xx, 4xx) stays what it is however often one asks; anything else may pass."""
        if isinstance(fault, ClientError):
            status = fault.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
            code = fault.response.get("Error", {}).get("Code", "unknown")
            if status < 500 and status not in (408, 429) and code != "RequestTimeout":
                return ArtifactsRefused(f"{what}: the store answered {code} ({status}); see ARTIFACTS_URL and AWS_*")
        reason = " ".join(str(fault).split())
        if isinstance(fault, NoCredentialsError | PartialCredentialsError | ParamValidationError):
            return ArtifactsRefused(f"{what}: {reason}; see ARTIFACTS_URL and AWS_*")
        return ArtifactsUnreachable(f"{what}: {reason}")
