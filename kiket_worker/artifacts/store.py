"""Where artifacts are kept: one contract, with a directory or an S3 bucket behind it."""

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from kiket_worker.artifacts.directory import DirectoryStore
from kiket_worker.artifacts.stored import Stored, Unfinished
from kiket_worker.errors import InvalidSetting
from kiket_worker.settings import S3Encryption, Settings


class Store(Protocol):
    """Files by key. A key is a relative path with `/`; a file that was put is whole, or it is not there.

    Every method raises `ArtifactsUnreachable` where a retry can help, and `ArtifactsRefused`, or one of its kinds.
    """

    @property
    def puts_at_once(self) -> int:
        """How many files of one run are worth putting at the same time."""
        ...

    def location(self, key: str) -> str:
        """The URL under which people find the key."""
        ...

    def put(
        self,
        key: str,
        file: Path,
        *,
        sha256: str,
        content_type: str,
        encoding: str | None = None,
        completes_set: bool = False,
    ) -> None:
        """Store a file whose bytes have this SHA-256, in hexadecimal digits; with others, nothing is there afterwards.

        With `completes_set`, whatever was put into its folder and those below is durable before it is there, and so is
        the file itself at the end: a power cut leaves none that speaks of what is lost. Raises `ArtifactChanged` too.
        """
        ...

    def get(self, key: str) -> bytes:
        """The stored bytes of a small file. Raises `FileNotFoundError`."""
        ...

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """The stored bytes to be read piece by piece, for files of any size. Raises `FileNotFoundError`."""
        ...

    def list(self, folder: str) -> Iterator[Stored]:
        """Every file below a folder, the whole store's for the empty name; those of one folder come together."""
        ...

    def remove(self, keys: Collection[str]) -> None:
        """Remove files; one that is not there is as good as removed."""
        ...

    def unfinished(self) -> Iterator[Unfinished]:
        """What was begun to be put and is not there: what goes on just now, and what the killed have left."""
        ...

    def discard(self, upload: Unfinished) -> None:
        """Remove what there is of an unfinished upload."""
        ...


@dataclass(frozen=True)
class S3Options:
    """How objects are kept in S3; None leaves it to the bucket."""

    encryption: S3Encryption | None = None
    kms_key: str | None = None
    storage_class: str | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> "S3Options":
        """The `KIKET_S3_*` of the settings."""
        return cls(settings.s3_encryption, settings.s3_kms_key, settings.s3_storage_class)


def open_store(url: str, options: S3Options = S3Options()) -> Store:  # frozen
    """The store of an `ARTIFACTS_URL`: `s3://bucket/prefix` or `file:///directory`. Raises `InvalidSetting`."""
    parts = urlsplit(url)
    if parts.scheme == "s3":
        if options.kms_key and options.encryption not in {S3Encryption.KMS, S3Encryption.KMS_DOUBLE}:
            raise InvalidSetting(
                f"KIKET_S3_KMS_KEY names a key that nothing uses: set KIKET_S3_ENCRYPTION to {S3Encryption.KMS} or "
                f"{S3Encryption.KMS_DOUBLE}, or leave the key out"
            )
        # A quarter of a command's start, and only commands that reach S3 need it.
        from kiket_worker.artifacts.s3 import S3Store  # noqa: PLC0415

        return S3Store(
            parts.netloc,
            unquote(parts.path).strip("/"),
            encryption=options.encryption,
            kms_key=options.kms_key,
            storage_class=options.storage_class,
        )
    if options != S3Options():
        # Whoever asks for encryption has to learn that there is none.
        raise InvalidSetting(
            "KIKET_S3_ENCRYPTION, KIKET_S3_KMS_KEY and KIKET_S3_STORAGE_CLASS are for s3://, and ARTIFACTS_URL is a "
            "directory: leave them out, or set ARTIFACTS_URL to a bucket"
        )
    return DirectoryStore(Path(unquote(parts.path)))


def store_of(settings: Settings) -> Store:
    """The store that the settings name. Raises `InvalidSetting`."""
    return open_store(settings.artifacts_url, S3Options.from_settings(settings))
