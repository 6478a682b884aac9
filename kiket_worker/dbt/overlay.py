"""The overlay: the analytics part of a definition repository, named by the digest of its content."""

import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import PurePosixPath

from kiket_worker.errors import OverlayDamaged

# Under what name an organisation's overlay is published where nobody says otherwise.
DEFAULT_NAME = "main"

_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")


class Kind(StrEnum):
    """What a file of an overlay is for. The first five are dbt's."""

    MODEL = "model"
    MACRO = "macro"
    SEED = "seed"
    TEST = "test"
    EXPOSURE = "exposure"
    DASHBOARD = "dashboard"
    QUERY = "query"


@dataclass(frozen=True)
class _Root:
    """A folder of a definition repository that is read, and where dbt finds its files; None: they are not dbt's."""

    folder: re.Pattern[str]
    kind: Kind
    suffixes: frozenset[str]
    place: str | None = None


_YAML = frozenset({".yml", ".yaml"})
# What dbt reads; dashboards and queries are the platform's.
OF_DBT = (Kind.MODEL, Kind.MACRO, Kind.SEED, Kind.TEST, Kind.EXPOSURE)
_DBT = _YAML | {".sql"}
# `place` has no two roots in one folder, so that files of the same name do not meet.
_ROOTS = (
    _Root(re.compile(r"analytics/dbt/models/"), Kind.MODEL, _DBT, "models/definitions/{name}/analytics/"),
    _Root(re.compile(r"analytics/dbt/macros/"), Kind.MACRO, _DBT | {".md"}, "macros/definitions/{name}/"),
    _Root(re.compile(r"analytics/dbt/seeds/"), Kind.SEED, _YAML | {".csv", ".md"}, "seeds/definitions/{name}/"),
    # dbt looks for generic tests in this folder only.
    _Root(re.compile(r"analytics/dbt/tests/generic/"), Kind.TEST, _DBT, "tests/generic/definitions/{name}/"),
    _Root(re.compile(r"analytics/dbt/tests/"), Kind.TEST, _DBT | {".md"}, "tests/definitions/{name}/"),
    _Root(
        re.compile(r"analytics/dbt/exposures/"), Kind.EXPOSURE, _YAML | {".md"}, "models/definitions/{name}/exposures/"
    ),
    _Root(re.compile(r"\.kiket/analytics/dbt/models/"), Kind.MODEL, _DBT, "models/definitions/{name}/kiket/"),
    _Root(
        re.compile(r"\.kiket/modules/(?P<module>[^/]+)/dbt/models/"),
        Kind.MODEL,
        _DBT,
        "models/definitions/{name}/modules/{module}/",
    ),
    _Root(re.compile(r"\.kiket/(analytics/)?dashboards/"), Kind.DASHBOARD, _YAML),
    _Root(re.compile(r"\.kiket/(analytics/)?queries/"), Kind.QUERY, _YAML),
)
_FLAT = frozenset({Kind.DASHBOARD, Kind.QUERY})


def kind_of(path: str) -> Kind | None:
    """What a file of a repository is for, by its path with `/`; None for all that is ignored."""
    found = _root_of(path)
    return found[0].kind if found else None


def is_yaml(path: str) -> bool:
    """Whether a file is YAML, by its name."""
    return PurePosixPath(path).suffix in _YAML


def place_of(path: str, name: str) -> str | None:
    """Where dbt finds a file in the bundle of an overlay of this name; None for what dbt does not read."""
    found = _root_of(path)
    if found is None or found[0].place is None:
        return None
    root, match = found
    return root.place.format(name=name, **match.groupdict()) + path[match.end() :] if root.place else None


def may_hold_definitions(folder: str) -> bool:
    """Whether anything that is read can lie below a folder, by its path with `/` and without one at the end."""
    parts = PurePosixPath(folder).parts
    return not parts or any(_may_lead(parts, path) for path in _PATHS)


_PATHS = (
    *(("analytics", "dbt", part) for part in ("models", "macros", "seeds", "tests", "exposures")),
    (".kiket", "analytics", "dbt", "models"),
    (".kiket", "modules", "*", "dbt", "models"),
    *((".kiket", *middle, part) for middle in ((), ("analytics",)) for part in ("dashboards", "queries")),
)


def _may_lead(parts: tuple[str, ...], path: tuple[str, ...]) -> bool:
    return all(wanted in {"*", part} for part, wanted in zip(parts, path, strict=False))


def _root_of(path: str) -> tuple[_Root, re.Match[str]] | None:
    for root in _ROOTS:
        match = root.folder.match(path)
        if match and PurePosixPath(path).suffix in root.suffixes:
            is_deep = "/" in path[match.end() :]
            return None if is_deep and root.kind in _FLAT else (root, match)
    return None


def is_name(name: str) -> bool:
    """Whether an overlay can be called so: it becomes a folder of the bundle."""
    return bool(_NAME.fullmatch(name))


@dataclass(frozen=True)
class Overlay:
    """Texts by their paths in the repository, with `/`. What is no text was refused when the repository was read."""

    files: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the names and contents of the files, in the order of their names."""
        digest = hashlib.sha256()
        for path in sorted(self.files):
            content = self.files[path].encode()
            digest.update(f"{path}\0{len(content)}\0".encode())
            digest.update(content)
        return digest.hexdigest()

    def of_kind(self, *kinds: Kind) -> dict[str, str]:
        """The files of some kinds, in the order of their paths."""
        return {path: self.files[path] for path in sorted(self.files) if kind_of(path) in kinds}

    @cached_property
    def models(self) -> dict[str, list[str]]:
        """The files of each model and seed, by its name; as a rule one."""
        found: dict[str, list[str]] = {}
        for path in self.of_kind(Kind.MODEL, Kind.SEED):
            if PurePosixPath(path).suffix in {".sql", ".csv"}:
                found.setdefault(PurePosixPath(path).stem, []).append(path)
        return found

    def without(self, paths: Iterable[str]) -> "Overlay":
        """The same but for some files."""
        left_out = set(paths)
        return Overlay({path: text for path, text in self.files.items() if path not in left_out})

    def pack(self) -> bytes:
        """The files as they are stored: the same bytes for the same content."""
        document = json.dumps(dict(sorted(self.files.items())), ensure_ascii=False, separators=(",", ":"))
        return gzip.compress(document.encode(), mtime=0)

    @classmethod
    def unpack(cls, packed: bytes, digest: str) -> "Overlay":
        """Read what was stored. Raises `OverlayDamaged` where it is not what this digest names."""
        try:
            document = json.loads(gzip.decompress(packed))
            overlay = cls({str(path): str(text) for path, text in document.items()})
        except (OSError, EOFError, ValueError, AttributeError) as fault:
            raise OverlayDamaged(f"the stored overlay {digest} cannot be read: {fault}") from fault
        if overlay.digest != digest:
            raise OverlayDamaged(f"the stored overlay {digest} has the content of {overlay.digest}")
        return overlay
