"""Where artifacts are kept: one contract, with a directory or an S3 bucket behind it."""

from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from kiket_worker.artifacts.directory import DirectoryStore


class Store(Protocol):
    """Files by key. A key is a relative path with `/`; a file that was put is whole, or it is not there."""

    def location(self, key: str) -> str:
        """The URL under which people find the key."""
        ...

    def put(self, key: str, file: Path, *, content_type: str, encoding: str | None = None) -> None:
        """Store a file. Raises `ArtifactsUnreachable` where a retry can help, and `ArtifactsRefused` where not."""
        ...

    def get(self, key: str) -> bytes:
        """The stored bytes. Raises `FileNotFoundError`, and what `put` raises."""
        ...


def open_store(url: str) -> Store:
    """The store of an `ARTIFACTS_URL`: `s3://bucket/prefix` or `file:///directory`."""
    parts = urlsplit(url)
    if parts.scheme == "s3":
        # A quarter of a command's start, and only commands that reach S3 need it.
        from kiket_worker.artifacts.s3 import S3Store  # noqa: PLC0415

        return S3Store(parts.netloc, unquote(parts.path).strip("/"))
    return DirectoryStore(Path(unquote(parts.path)))
