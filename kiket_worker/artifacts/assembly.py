"""Pages that are put together of a shell, which many sets share, and files of one set.

A page of dbt's docs has two megabytes, most of which are the same for every organisation and run. So the shell is
stored once, by the checksum of its bytes, and has holes for files that the set has anyway.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHELLS = "_docs"
_SHELL_KEY = re.compile(rf"{SHELLS}/([0-9a-f]{{64}})\.html")


@dataclass(frozen=True)
class Page:
    """A page to be archived: the shell, and the text of each of its holes, by the name of the file that fills it."""

    shell: Path
    holes: Mapping[str, str]


@dataclass(frozen=True)
class Assembly:
    """Of what an archived page is made: the key of its shell in the store, and the holes of a `Page`."""

    shell: str
    holes: dict[str, str]

    @classmethod
    def from_document(cls, document: Any) -> "Assembly":
        """Read it from an index. Raises `ValueError`."""
        try:
            shell, holes = document["shell"], document["holes"]
            if _SHELL_KEY.fullmatch(shell) and all(
                isinstance(item, str) and item for pair in holes.items() for item in pair
            ):
                return cls(shell, dict(holes))
        except (LookupError, TypeError, AttributeError) as fault:
            raise ValueError("not of what a page is made") from fault
        raise ValueError("not of what a page is made")

    @property
    def shell_sha256(self) -> str:
        """The checksum that the shell's stored bytes have to have: it is named by it."""
        return self.shell.removeprefix(f"{SHELLS}/").removesuffix(".html")


def shell_key(sha256: str) -> str:
    """Where a shell is stored whose stored bytes have this checksum."""
    return f"{SHELLS}/{sha256}.html"


def assembled(shell: bytes, holes: Mapping[str, str], content: Callable[[str], Iterable[bytes]]) -> Iterator[bytes]:
    """The page, piece by piece; `content` gives a file's by its name.

    What fills a hole is JSON inside a script: with each `<` escaped it stays the same JSON, and no text in it can end
    the script (https://html.spec.whatwg.org/multipage/scripting.html#restrictions-for-contents-of-script-elements).
    """
    names = {hole.encode(): name for name, hole in holes.items()}
    if not names:
        yield shell
        return
    for part in re.split(b"(%s)" % b"|".join(map(re.escape, names)), shell):
        if part in names:
            for piece in content(names[part]):
                yield piece.replace(b"<", b"\\u003c")
        else:
            yield part
