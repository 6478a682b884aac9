"""What stores say of the files that they keep."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Stored:
    """A file that is there, with its size in bytes."""

    key: str
    size: int
    modified_at: datetime


@dataclass(frozen=True)
class Unfinished:
    """An upload that did not come to its end, or has not yet. `upload` is the store's own name for it."""

    key: str
    upload: str
    size: int
    begun_at: datetime
