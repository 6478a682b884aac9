"""Files read and packed piece by piece, so that their size does not count."""

from collections.abc import Iterator
from typing import Protocol

PIECE_BYTES = 1024 * 1024
# zlib's word for gzip's header, which it writes without a name and a time: the same content gives the same bytes.
GZIP = 31


class Readable(Protocol):
    """Whatever gives its bytes by so many at a time."""

    def read(self, size: int, /) -> bytes:
        """At most so many of the bytes that follow; none at the end."""
        ...


def pieces(source: Readable) -> Iterator[bytes]:
    """The rest of what can be read."""
    while piece := source.read(PIECE_BYTES):
        yield piece
