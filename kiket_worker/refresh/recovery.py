"""After the ledger was restored from a backup: what was refreshed since then is read back from the artifact store.

A run whose set is complete and undamaged, and whose models all succeeded, has succeeded, and would have been recorded
so by the next worker at the latest. Everything else the ledger's own ways make good: who is due is queued again.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

from kiket_worker.artifacts.archive import INDEX_NAME
from kiket_worker.artifacts.reading import faults
from kiket_worker.artifacts.restoring import restore
from kiket_worker.artifacts.store import Store
from kiket_worker.artifacts.stored import Stored
from kiket_worker.dbt.results import read_results
from kiket_worker.errors import KiketError
from kiket_worker.ledger import archives, organizations, recovery
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.organizations import Organization
from kiket_worker.ledger.recovery import Evidence
from kiket_worker.ledger.runs import RunModel

_INDEX = re.compile(r"([^/]+)/([0-9a-f-]{36})/([1-9][0-9]*)/" + re.escape(INDEX_NAME))
_RESULTS = "run_results.json"


class Fate(StrEnum):
    """What became of a set: recorded, in the way of an active run, of a run that failed, or damaged."""

    RECOVERED = "recovered"
    BUSY = "busy"
    FAILED = "failed"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class Found:
    """A set of a run that the ledger did not know, and what became of it."""

    run_id: UUID
    organization: str
    attempt: int
    fate: Fate


def recover(database: Database, store: Store) -> Iterator[Found]:
    """Record each run that the store has and the ledger has not, the oldest of each organisation first.

    Safe to repeat, and while workers are at work: what the ledger has is left alone.
    """
    for organization in organizations.list_with_settings(database):
        sets = [found for file in store.list(organization.slug) if (found := _set(file))]
        known = archives.known(database, [run_id for run_id, _, _ in sets])
        # The last attempt of each; ids begin with their time.
        newest = {run_id: (attempt, file) for run_id, attempt, file in sorted(sets, key=lambda one: one[:2])}
        for run_id, (attempt, file) in newest.items():
            if run_id not in known:
                fate = _recover_one(database, store, organization, run_id, attempt, file)
                yield Found(run_id, organization.slug, attempt, fate)


def _set(file: Stored) -> tuple[UUID, int, Stored] | None:
    found = _INDEX.fullmatch(file.key)
    return (UUID(found[2]), int(found[3]), file) if found else None


def _recover_one(
    database: Database, store: Store, organization: Organization, run_id: UUID, attempt: int, file: Stored
) -> Fate:
    prefix = file.key.removesuffix(f"/{INDEX_NAME}")
    index = store.get(file.key)
    sha256 = hashlib.sha256(index).hexdigest()
    if next(faults(store, prefix, sha256), None):
        return Fate.DAMAGED
    if json.loads(index).get("error"):
        return Fate.FAILED
    try:
        models = _models(store, prefix, sha256)
    except KiketError:
        return Fate.DAMAGED
    if any(model.status != "success" for model in models):
        return Fate.FAILED
    evidence = Evidence(
        run_id,
        organization.organization_id,
        organization.slug,
        attempt,
        _time_of(run_id),
        file.modified_at,
        store.location(prefix),
        sha256,
        models,
    )
    return Fate.RECOVERED if recovery.put_back(database, evidence) else Fate.BUSY


def _models(store: Store, prefix: str, index_sha256: str) -> Sequence[RunModel]:
    with TemporaryDirectory(prefix="kiket-recover-") as folder:
        restore(store, prefix, Path(folder), (_RESULTS,), index_sha256=index_sha256)
        results = read_results(Path(folder) / _RESULTS)
    return [
        RunModel(model.model_id, model.status, model.duration_seconds, model.rows_affected, model.message)
        for model in results
    ]


def _time_of(run_id: UUID) -> datetime:
    """When a run was queued: a version 7 UUID begins with it, in milliseconds (RFC 9562, section 5.7)."""
    return datetime.fromtimestamp((run_id.int >> 80) / 1000, UTC)
