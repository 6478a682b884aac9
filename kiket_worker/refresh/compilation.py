"""Compiled bundles: found in memory, or beside the artifacts, or made once for all workers, off the tenants' way."""

import contextlib
import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from typing import Any

from kiket_worker import events
from kiket_worker.artifacts.store import Store
from kiket_worker.dbt.bundle import Bundle
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.dbt.engine import Cancellation, Options, Tenant
from kiket_worker.dbt.invocation import command_of
from kiket_worker.dbt.replay import compiled as compiled_bundles
from kiket_worker.dbt.replay.compiled import Compiled, engine_digest
from kiket_worker.dbt.replay.probe import PREFIX
from kiket_worker.dbt.replay.proof import ProbeFailed
from kiket_worker.dbt.replay.replayer import Deoptimised, Question
from kiket_worker.dbt.workdir import workdir
from kiket_worker.errors import (
    ArtifactsRefused,
    ArtifactsUnreachable,
    CompiledBundleDamaged,
    KiketError,
    WorkerStopped,
)
from kiket_worker.ledger import leases
from kiket_worker.ledger.database import Database
from kiket_worker.refresh.recordings import Recordings, Subject
from kiket_worker.tenants.isolation import Isolation

# The name of the lease: one compilation at a time in an installation, whoever compiles.
LEASE = "replay_engine"
# Longer than a compilation takes, which is ended before.
_LEASE_SECONDS = 420
# How many bundles a worker keeps in memory, a few megabytes each.
_KEPT = 8
# How long a worker does not look whether another one has learned something, or refuted it.
_FRESH_SECONDS = 120
# How long nobody looks again for a bundle that somebody else compiles, or that could not be compiled.
_LOOK_AGAIN_SECONDS = 5
_TRY_AGAIN_SECONDS = 600
_CLOSE_SECONDS = 10
# How many answers of the database are recorded for a bundle beside those of the probes.
_MOST_ANSWERS = 24


@dataclass
class _Kept:
    """A bundle in memory, what is stored of it, and until when nobody looks whether that is something else now."""

    compiled: Compiled
    content: bytes
    fresh_until: float


class CompiledBundles:
    """The compiled bundles of an installation, as a worker finds them."""

    def __init__(
        self,
        database: Database,
        store: Store,
        isolation: Isolation,
        connection: DbtConnection,
        *,
        worker: str,
        command: str,
    ) -> None:
        self._database = database
        self._store = store
        self._isolation = isolation
        self._connection = connection
        self._recordings = Recordings(database, isolation, connection, command)
        self._worker = worker
        self._command = command
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._not_before: dict[str, float] = {}
        self._failed: dict[str, Compiled] = {}
        self._tried: set[tuple[str, str]] = set()
        self._thread: threading.Thread | None = None
        self._cancellation = Cancellation()
        self._is_closed = False
        self._server: int | None = None

    def find(self, bundle: Bundle, tenant: Tenant, options: Options) -> Compiled:
        """The compiled bundle. Raises `Deoptimised` where there is none yet; then one is being made."""
        try:
            key = self.key(bundle, tenant, options)
        except metadata.PackageNotFoundError as fault:
            raise Deoptimised("not_compiled", f"{fault.name} is not installed beside this worker") from fault
        with self._lock:
            if (kept := self._kept.get(key)) and time.monotonic() < kept.fresh_until:
                self._kept.move_to_end(key)
                return kept.compiled
            if time.monotonic() < self._not_before.get(key, 0):
                if failed := self._failed.get(key):
                    return failed
                raise Deoptimised("not_compiled", "the bundle is not compiled yet")
        try:
            stored = self._stored(key)
        except (ArtifactsUnreachable, ArtifactsRefused) as fault:
            if kept is not None:
                return kept.compiled
            raise Deoptimised("not_compiled", f"where compiled bundles are cannot be looked at: {fault}") from fault
        if stored:
            return stored
        self._begin(lambda cancellation: self.compile(bundle, tenant, options, cancellation))
        raise Deoptimised("not_compiled", "the bundle is not compiled yet")

    def prepare(self, bundle: Bundle, tenant: Tenant, options: Options) -> None:
        """Have it compiled in the background, if it is not yet."""
        self._begin(lambda cancellation: self.compile(bundle, tenant, options, cancellation))

    def learn(self, bundle: Bundle, tenant: Tenant, options: Options, question: Question) -> None:
        """Have dbt recorded with an answer that was not known, unless there are too many for this bundle."""
        key = self.key(bundle, tenant, options)
        answers = {f"{question.node}\n{query}": rows for query, rows in question.answers.items()}
        asked = (key, json.dumps(answers, sort_keys=True))
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or kept.compiled.learned >= _MOST_ANSWERS or asked in self._tried:
                return
            self._tried.add(asked)
        subject = Subject(bundle, tenant, options, answers)
        self._begin(lambda cancellation: self._learn(kept.compiled, subject, cancellation))

    def check(self, compiled: Compiled, bundle: Bundle, tenant: Tenant, options: Options) -> None:
        """Have real dbt run for a tenant in a scratch schema, in the background, and compare what it does."""
        with self._lock:
            known = self._kept.get(compiled.key)
        if known is not None and known.compiled is compiled:
            subject = Subject(bundle, tenant, options)
            self._begin(lambda cancellation: self._check(known, subject, cancellation))

    def _check(self, known: _Kept, subject: Subject, cancellation: Cancellation) -> None:
        began, key, tenant = time.monotonic(), known.compiled.key, subject.tenant
        with self._leased() as is_mine:
            if not is_mine:
                return
            differences = self._recordings.compare(key, known.content, subject, cancellation)
            about = {
                "organization": tenant.slug,
                "worker": self._worker,
                "bundle_digest": subject.bundle.digest,
                "duration_seconds": round(time.monotonic() - began, 3),
            }
            if not differences:
                events.ENGINE_CHECKED.log(**about)
                return
            # Nobody replays it any more: what was proven is not so.
            refuted = Compiled(key, known.compiled.versions, tuple(f"not as dbt does: {it}" for it in differences))
            self._save(refuted, refuted.dump())
            events.ENGINE_REFUTED.log(reasons=differences[:10], **about)

    def compile(
        self, bundle: Bundle, tenant: Tenant, options: Options, cancellation: Cancellation | None = None
    ) -> Compiled | None:
        """Record dbt, prove and store; None where another worker does so just now. Raises `KiketError`.

        Of the tenant, only what is the same for all tenants counts.
        """
        key = self.key(bundle, tenant, options)
        with self._leased() as is_mine:
            if not is_mine:
                # Whoever has the lease may be at something else than this bundle.
                if (stored := self._stored(key)) is None:
                    self._put_off(key, _LOOK_AGAIN_SECONDS)
                return stored
            # Those of a worker that was killed; nobody else's, as whoever records holds the lease.
            self._isolation.drop_probes(self._database, PREFIX)
            if stored := self._stored(key):
                return stored
            return self._compile(key, Subject(bundle, tenant, options), cancellation or Cancellation())

    def key(self, bundle: Bundle, tenant: Tenant, options: Options) -> str:
        """What a compiled bundle is stored under: a digest of all that dbt depends on but the tenant."""
        given: dict[str, Any] = {
            "bundle": bundle.digest,
            "engine": engine_digest(),
            "versions": versions(),
            "server": self._server_version(),
            "command": [*command_of(self._command, bundle), *options.exclusion],
            "variables": {
                name: value for name, value in tenant.variables.items() if not name.startswith("organization")
            },
            "connection": [self._connection.host, self._connection.port, self._connection.database],
            "user": None if tenant.user else self._connection.user,
        }
        return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()

    def _compile(self, key: str, subject: Subject, cancellation: Cancellation) -> Compiled:
        began = time.monotonic()
        try:
            content = self._recordings.prove(key, versions(), subject, cancellation)
            compiled = compiled_bundles.load(content, key)
            self._save(compiled, content)
        except ProbeFailed as fault:
            # Not for ever: a probe may fail for a reason that passes.
            self._put_off(key, _TRY_AGAIN_SECONDS)
            self._failed[key] = compiled = Compiled(key, versions(), reasons=tuple(fault.reasons))
        except Exception:  # Whatever it is, the next refresh would only meet it again, after a minute's computing.
            self._put_off(key, _TRY_AGAIN_SECONDS)
            raise
        events.ENGINE_COMPILED.log(
            worker=self._worker,
            bundle_digest=subject.bundle.digest,
            duration_seconds=round(time.monotonic() - began, 3),
            replayable=compiled.is_replayable,
            reasons=list(compiled.reasons[:10]),
        )
        return compiled

    def _learn(self, known: Compiled, subject: Subject, cancellation: Cancellation) -> None:
        with self._leased() as is_mine:
            if not is_mine:
                return
            current = self._stored(known.key) or known
            try:
                content = self._recordings.prove(known.key, versions(), subject, cancellation)
                learned = compiled_bundles.load(content, known.key)
            except ProbeFailed as fault:
                learned = Compiled(known.key, versions(), reasons=tuple(fault.reasons))
            if not learned.is_replayable:
                # The answer is one that dbt cannot be recorded with; this worker does not try it again.
                merged = replace(current, learned=current.learned + 1)
            else:
                merged = current.with_traces_of(learned)
            self._save(merged, merged.dump())
            events.ENGINE_LEARNED.log(
                worker=self._worker,
                bundle_digest=subject.bundle.digest,
                answers=merged.learned,
                replayable=learned.is_replayable,
            )

    @contextlib.contextmanager
    def _leased(self) -> Iterator[bool]:
        epoch = leases.acquire_schema(self._database, LEASE, worker=self._worker, ttl_seconds=_LEASE_SECONDS)
        try:
            yield epoch is not None
        finally:
            if epoch is not None:
                leases.release_schema(self._database, LEASE, epoch)

    def _begin(self, work: Callable[[Cancellation], object]) -> None:
        """Work in a thread of its own, unless one is at it, or none may begin any more."""
        with self._lock:
            if self._is_closed or (self._thread is not None and self._thread.is_alive()):
                return
            cancellation = self._cancellation = Cancellation()
            self._thread = threading.Thread(
                target=self._guarded, args=(work, cancellation), daemon=True, name="compilation"
            )
            self._thread.start()

    def _guarded(self, work: Callable[[Cancellation], object], cancellation: Cancellation) -> None:
        try:
            work(cancellation)
        except Exception as fault:  # A thread has nobody to raise to.
            kind = fault.kind if isinstance(fault, KiketError) else KiketError.kind
            events.ENGINE_COMPILATION_FAILED.log(
                worker=self._worker, error_kind=kind, error=str(fault).partition("\n")[0]
            )

    def close(self) -> None:
        """End what was begun in the background, and wait until nothing of it is left; nothing begins any more."""
        with self._lock:
            self._is_closed = True
            thread = self._thread
        if thread is not None and thread.is_alive():
            self._cancellation.cancel(WorkerStopped("this worker ends"))
            thread.join(_CLOSE_SECONDS)

    def settle(self) -> None:
        """Wait until what was begun in the background has ended."""
        if self._thread is not None:
            self._thread.join()

    def _keep(self, compiled: Compiled, content: bytes) -> Compiled:
        """For who holds the lock."""
        self._kept[compiled.key] = _Kept(compiled, content, time.monotonic() + _FRESH_SECONDS)
        self._kept.move_to_end(compiled.key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        self._not_before.pop(compiled.key, None)
        return compiled

    def _put_off(self, key: str, seconds: float) -> None:
        with self._lock:
            self._not_before[key] = time.monotonic() + seconds

    def _stored(self, key: str) -> Compiled | None:
        """What is stored, and kept from now on; what is kept already, where nobody has stored anything else since."""
        with self._lock:
            kept = self._kept.get(key)
        try:
            content = self._store.get(_path(key))
            # Loaded anew it would be the same in other places, and each time a worker's memory would be in more pieces.
            known = kept.compiled if kept and kept.content == content else None
            compiled = known or compiled_bundles.load(content, key)
        except FileNotFoundError:
            return None
        except CompiledBundleDamaged as fault:
            events.ENGINE_COMPILATION_FAILED.log(worker=self._worker, error_kind=fault.kind, error=str(fault))
            return None
        with self._lock:
            now = self._kept.get(key)
            if now is not None and now is not kept:
                return now.compiled  # Kept by another thread meanwhile, which may just have refuted what was read here.
            return self._keep(compiled, content)

    def _save(self, compiled: Compiled, content: bytes) -> None:
        """Store and keep it."""
        with workdir() as folder:
            file = folder / "compiled"
            file.write_bytes(content)
            sha256 = hashlib.sha256(content).hexdigest()
            self._store.put(_path(compiled.key), file, sha256=sha256, content_type="application/gzip")
        with self._lock:
            self._keep(compiled, content)

    def _server_version(self) -> int:
        if self._server is None:
            rows = self._database.rows(b"select current_setting('server_version_num')::integer as version")
            self._server = int(rows[0]["version"])
        return self._server


@cache
def versions() -> dict[str, str]:
    """The versions of dbt that is recorded."""
    return {name: metadata.version(name) for name in ("dbt-core", "dbt-postgres", "dbt-adapters")}


def _path(key: str) -> str:
    # No organisation's: a slug does not begin with an underscore.
    return f"_engine/{key}/compiled.json.gz"
