"""Retention: sets that are old enough are removed, and what the killed have left.

The last successful set of each organisation stays for ever, and so do compiled bundles, and whatever else is in the
store that is no set. What is removed loses its index first: after a crash in the middle nothing looks complete, and
the next one goes on.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import groupby
from uuid import UUID

from kiket_worker.artifacts.archive import INDEX_NAME
from kiket_worker.artifacts.store import Store
from kiket_worker.artifacts.stored import Stored
from kiket_worker.ledger import archives
from kiket_worker.ledger.archives import Known
from kiket_worker.ledger.database import Database

_UUID = "[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"
# `<slug>/<run>/<attempt>/` and `_shared/<refresh>/<attempt>/`.
_SET = re.compile(rf"((?:_shared|[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?)/({_UUID})/[1-9][0-9]*)/.+")
# Uploads may also have been of what is not a set but the worker's: compiled bundles, and the like.
_OWN = re.compile(rf"{_SET.pattern}|_[a-z]+/.+")
# Longer than any upload takes.
_LEFT = timedelta(days=1)


class What(StrEnum):
    """What is removed: a set that is complete and old, files without an index, an upload that never ended."""

    SET = "set"
    LEFTOVER = "leftover"
    UPLOAD = "upload"


@dataclass(frozen=True)
class Removed:
    """Something that was removed, or would be: where it was, and how much it was."""

    what: What
    location: str
    files: int
    size: int


@dataclass(frozen=True)
class _Set:
    prefix: str
    set_id: UUID
    files: tuple[Stored, ...]

    @property
    def index(self) -> Stored | None:
        return next((file for file in self.files if file.key == f"{self.prefix}/{INDEX_NAME}"), None)

    @property
    def modified_at(self) -> datetime:
        return self.index.modified_at if self.index else max(file.modified_at for file in self.files)


def prune(
    store: Store, database: Database, *, keep_days: int, now: datetime, dry_run: bool = False
) -> Iterator[Removed]:
    """Remove what is older than so many days, and tell each as it goes; with `dry_run`, only tell.

    Raises what the store and the ledger raise; what was told until then is removed.
    """
    for sets in _by_folder(store.list("")):
        old = [one for one in sets if one.modified_at < now - (timedelta(days=keep_days) if one.index else _LEFT)]
        if not old:
            continue
        known = archives.known(database, [one.set_id for one in sets])
        kept = _kept(store, sets, known)
        chosen = [one for one in old if one.prefix not in kept and _has_ended(one, known)]
        if not dry_run:
            _remove(store, database, chosen)
        for one in chosen:
            what = What.SET if one.index else What.LEFTOVER
            yield Removed(what, store.location(one.prefix), len(one.files), sum(file.size for file in one.files))
    for upload in store.unfinished():
        if upload.begun_at < now - _LEFT and _OWN.fullmatch(upload.key):
            if not dry_run:
                store.discard(upload)
            yield Removed(What.UPLOAD, store.location(upload.key), 1, upload.size)


def _by_folder(files: Iterable[Stored]) -> Iterator[list[_Set]]:
    """Sets of one organisation at a time, and of the shared models; what is no set is left out."""
    matched = ((match, file) for file in files if (match := _SET.fullmatch(file.key)))
    for _, of_owner in groupby(matched, key=lambda pair: pair[1].key.partition("/")[0]):
        yield [
            _Set(prefix, UUID(set_id), tuple(file for _, file in of_set))
            for (prefix, set_id), of_set in groupby(of_owner, key=lambda pair: (pair[0][1], pair[0][2]))
        ]


def _kept(store: Store, sets: list[_Set], known: Mapping[UUID, Known]) -> set[str]:
    """The last successful set of each owner, by the ledger; where it knows of none, the newest that is complete."""
    complete = sorted((one for one in sets if one.index), key=lambda one: (one.modified_at, one.prefix))
    successful = [
        (about, one)
        for one in complete
        if (about := known.get(one.set_id)) and about.has_succeeded and str(about.location).endswith(f"/{one.prefix}")
    ]
    last = {about.owner: one.prefix for about, one in sorted(successful, key=lambda pair: pair[0].at)}
    return set(last.values()) or {one.prefix for one in complete[-1:]}


def _has_ended(one: _Set, known: Mapping[UUID, Known]) -> bool:
    """Whether nobody writes it any more, or is about to bill for it."""
    about = known.get(one.set_id)
    return about is None or about.has_ended


def _remove(store: Store, database: Database, sets: list[_Set]) -> None:
    # The ledger first: a set that it calls pruned may still be there, but none is missing that it does not.
    archives.record_pruned(database, [one.set_id for one in sets], [store.location(one.prefix) for one in sets])
    indexes = [one.index.key for one in sets if one.index]
    store.remove(indexes)
    store.remove([file.key for one in sets for file in one.files if file is not one.index])
