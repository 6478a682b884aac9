"""Compiled bundles: found in memory, or beside the artifacts, or made once for all workers, off the tenants' way."""

import contextlib
import hashlib
import json
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from kiket_worker import events
from kiket_worker.artifacts.store import Store
from kiket_worker.dbt.bundle import Bundle
from kiket_worker.dbt.child import keep_end, run_child
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.dbt.engine import Cancellation, Options, Tenant
from kiket_worker.dbt.executable import time_limit
from kiket_worker.dbt.invocation import arguments, command_of, environment
from kiket_worker.dbt.replay import compiled as compiled_bundles
from kiket_worker.dbt.replay.compiled import Compiled, engine_digest
from kiket_worker.dbt.replay.probe import PREFIX, Probe, pair, values_of
from kiket_worker.dbt.replay.proof import FULL_REFRESH, STATES, ProbeFailed, Recording, differences, prove
from kiket_worker.dbt.replay.replayer import Deoptimised, Question
from kiket_worker.dbt.workdir import workdir
from kiket_worker.errors import (
    ArtifactsRefused,
    ArtifactsUnreachable,
    CompilationFailed,
    CompiledBundleDamaged,
    KiketError,
    WorkerStopped,
)
from kiket_worker.ledger import leases
from kiket_worker.ledger.database import Database
from kiket_worker.tenants.isolation import Isolation
from kiket_worker.tenants.provisioning import Candidate

# What dbt's Jinja is to be told of a node's query, both with holes, instead of what the database says of a probe.
Answers = dict[str, list[list[str | None]]]

# The name of the lease: one compilation at a time in an installation, whoever compiles.
LEASE = "replay_engine"
# Longer than a compilation takes, which is ended before.
_LEASE_SECONDS = 420
_TIME_LIMIT_SECONDS = 360
# How many bundles a worker keeps in memory, a few megabytes each.
_KEPT = 8
# How long a worker does not look whether another one has learned something, or refuted it.
_FRESH_SECONDS = 120
# How long nobody looks again for a bundle that somebody else compiles, or that could not be compiled.
_LOOK_AGAIN_SECONDS = 5
_TRY_AGAIN_SECONDS = 600
_OUTPUT_BYTES_KEPT = 2000
_CLOSE_SECONDS = 10
# How many answers of the database are recorded for a bundle beside those of the probes.
_MOST_ANSWERS = 24


@dataclass
class _Kept:
    """A bundle in memory, the SHA-256 of its stored bytes, and until when nobody looks whether these are others now."""

    compiled: Compiled
    sha256: str
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
        self._worker = worker
        self._command = command
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._not_before: dict[str, float] = {}
        self._failed: dict[str, Compiled] = {}
        self._tried: set[tuple[str, str]] = set()
        self._thread: threading.Thread | None = None
        self._cancellation = Cancellation()
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
        self._begin(lambda: self.compile(bundle, tenant, options))
        raise Deoptimised("not_compiled", "the bundle is not compiled yet")

    def prepare(self, bundle: Bundle, tenant: Tenant, options: Options) -> None:
        """Have it compiled in the background, if it is not yet."""
        self._begin(lambda: self.compile(bundle, tenant, options))

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
        self._begin(lambda: self._learn(kept.compiled, bundle, tenant, options, answers))

    def check(self, compiled: Compiled, bundle: Bundle, tenant: Tenant, options: Options) -> None:
        """Have real dbt run for a tenant in a scratch schema, in the background, and compare what it does."""
        self._begin(lambda: self._check(compiled, bundle, tenant, options))

    def _check(self, compiled: Compiled, bundle: Bundle, tenant: Tenant, options: Options) -> None:
        began = time.monotonic()
        with self._leased() as is_mine:
            if not is_mine:
                return
            differences = self._differences(compiled, bundle, tenant, options)
            about = {
                "organization": tenant.slug,
                "worker": self._worker,
                "bundle_digest": bundle.digest,
                "duration_seconds": round(time.monotonic() - began, 3),
            }
            if not differences:
                events.ENGINE_CHECKED.log(**about)
                return
            # Nobody replays it any more: what was proven is not so.
            refuted = Compiled(compiled.key, compiled.versions, tuple(f"not as dbt does: {it}" for it in differences))
            self._save(refuted)
            events.ENGINE_REFUTED.log(reasons=differences[:10], **about)

    def _differences(self, compiled: Compiled, bundle: Bundle, tenant: Tenant, options: Options) -> list[str]:
        """Where dbt does something else for the organisation, in a probe's schema, than would be replayed there."""
        scratch = pair()[0]
        cancellation = self._cancellation = Cancellation()
        with (
            workdir() as folder,
            time_limit(_TIME_LIMIT_SECONDS, cancellation),
            self._isolation.probe(
                self._database, Candidate(tenant.organization_id, scratch.slug), scratch.schema
            ) as login,
        ):
            beside = replace(
                tenant,
                schema=scratch.schema,
                user=login.role if login else None,
                password=login.password if login else "",
                session=None,
            )
            values = values_of(tenant.organization_id, tenant.slug, scratch.schema)
            document = self._run_recorder(
                folder / "check",
                bundle,
                beside,
                options,
                cancellation,
                states=STATES[:1],
                values=values,
                answers={},
                clock_shift_seconds=0,
                application_name=f"kiket-{scratch.slug}",
            )
        return differences(compiled, document["states"][STATES[0]], values)

    def compile(self, bundle: Bundle, tenant: Tenant, options: Options) -> Compiled | None:
        """Record dbt, prove and store; None where another worker does so just now. Raises `KiketError`.

        Of the tenant, only what is the same for all tenants counts.
        """
        key = self.key(bundle, tenant, options)
        with self._leased() as is_mine:
            if not is_mine:
                self._put_off(key, _LOOK_AGAIN_SECONDS)
                return None
            # Those of a worker that was killed; nobody else's, as whoever records holds the lease.
            self._isolation.drop_probes(self._database, PREFIX)
            if stored := self._stored(key):
                return stored
            return self._compile(key, bundle, tenant, options)

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

    def _compile(self, key: str, bundle: Bundle, tenant: Tenant, options: Options) -> Compiled:
        began = time.monotonic()
        try:
            compiled = self._recorded(key, bundle, tenant, options, {})
        except CompilationFailed:
            self._put_off(key, _TRY_AGAIN_SECONDS)
            raise
        except ProbeFailed as fault:
            # Not for ever: a probe may fail for a reason that passes.
            self._put_off(key, _TRY_AGAIN_SECONDS)
            self._failed[key] = compiled = Compiled(key, versions(), reasons=tuple(fault.reasons))
        else:
            self._save(compiled)
        events.ENGINE_COMPILED.log(
            worker=self._worker,
            bundle_digest=bundle.digest,
            duration_seconds=round(time.monotonic() - began, 3),
            replayable=compiled.is_replayable,
            reasons=list(compiled.reasons[:10]),
        )
        return compiled

    def _learn(
        self,
        known: Compiled,
        bundle: Bundle,
        tenant: Tenant,
        options: Options,
        answers: Answers,
    ) -> None:
        with self._leased() as is_mine:
            if not is_mine:
                return
            current = self._stored(known.key) or known
            try:
                learned = self._recorded(known.key, bundle, tenant, options, answers)
            except ProbeFailed as fault:
                learned = Compiled(known.key, versions(), reasons=tuple(fault.reasons))
            if not learned.is_replayable:
                # The answer is one that dbt cannot be recorded with; this worker does not try it again.
                merged = replace(current, learned=current.learned + 1)
            else:
                merged = current.with_traces_of(learned)
            self._save(merged)
            events.ENGINE_LEARNED.log(
                worker=self._worker,
                bundle_digest=bundle.digest,
                answers=merged.learned,
                replayable=learned.is_replayable,
            )

    def _recorded(self, key: str, bundle: Bundle, tenant: Tenant, options: Options, answers: Answers) -> Compiled:
        cancellation = self._cancellation = Cancellation()
        with workdir() as folder, time_limit(_TIME_LIMIT_SECONDS, cancellation), ThreadPoolExecutor(2) as pool:
            probes = pair()
            folders = [folder / name for name in ("first", "second")]
            waiting = [
                pool.submit(self._record, probe, of_probe, bundle, tenant, options, answers, cancellation)
                for probe, of_probe in zip(probes, folders, strict=True)
            ]
            try:
                first, second = [recording.result() for recording in waiting]
            except BaseException:  # An interrupt too: neither is waited for any longer.
                cancellation.cancel(WorkerStopped("the compilation was ended"))
                raise
            return prove(first, second, key=key, versions=versions())

    def _record(
        self,
        probe: Probe,
        folder: Path,
        bundle: Bundle,
        tenant: Tenant,
        options: Options,
        answers: Answers,
        cancellation: Cancellation,
    ) -> Recording:
        """dbt's doings for a probe, in every state."""
        with self._isolation.probe(self._database, Candidate(probe.organization_id, probe.slug), probe.schema) as login:
            as_probe = replace(
                tenant,
                organization_id=probe.organization_id,
                slug=probe.slug,
                schema=probe.schema,
                user=login.role if login else None,
                password=login.password if login else "",
                session=None,
            )
            document = self._run_recorder(
                folder,
                bundle,
                as_probe,
                options,
                cancellation,
                states=STATES,
                values=probe.values,
                answers=answers,
                clock_shift_seconds=probe.clock_shift_seconds,
                application_name=f"kiket-{probe.slug}",
            )
        places = {"workdir": str(folder), "project_dir": str(bundle.project_dir.absolute())}
        return Recording(document, probe.values, places)

    def _run_recorder(
        self,
        folder: Path,
        bundle: Bundle,
        tenant: Tenant,
        options: Options,
        cancellation: Cancellation,
        *,
        states: Sequence[str],
        values: dict[str, str],
        answers: Answers,
        clock_shift_seconds: int,
        application_name: str,
    ) -> dict[str, Any]:
        """What the recorder writes of dbt for a tenant. Raises `CompilationFailed`."""
        folder.mkdir()
        target, output, request = folder / "target", folder / "recording.json", folder / "request.json"
        asked = {
            "values": values,
            "answers": answers,
            "clock_shift_seconds": clock_shift_seconds,
            "target_path": str(target),
            "arguments": [
                *command_of(self._command, bundle),
                *arguments(bundle, tenant, workdir=folder, target=target),
                *(f"--exclude={item}" for item in options.exclusion),
            ],
            "states": [[state, ["--full-refresh"] if state == FULL_REFRESH else []] for state in states],
            "output": str(output),
        }
        request.write_text(json.dumps(asked), encoding="utf-8")
        said = bytearray()
        # One thread: the order of nodes is dbt's own, and a session sees what the node before has left in it.
        variables = environment(self._connection, tenant, workdir=folder, application_name=application_name)
        code = run_child(
            [sys.executable, "-I", "-m", "kiket_worker.dbt.replay.recorder", str(request)],
            folder=folder,
            environment=variables | {"DBT_THREADS": "1"},
            read=lambda pipe: keep_end(pipe, said, most_bytes=_OUTPUT_BYTES_KEPT),
            cancellation=cancellation,
        )
        if cancellation.reason:
            raise CompilationFailed(f"recording dbt was ended: {cancellation.reason}")
        if code != 0 or not output.is_file():
            words = said.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise CompilationFailed(f"dbt could not be recorded: {words or f'its recorder ended with code {code}'}")
        document: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
        return document

    @contextlib.contextmanager
    def _leased(self) -> Iterator[bool]:
        epoch = leases.acquire_schema(self._database, LEASE, worker=self._worker, ttl_seconds=_LEASE_SECONDS)
        try:
            yield epoch is not None
        finally:
            if epoch is not None:
                leases.release_schema(self._database, LEASE, epoch)

    def _begin(self, work: Any) -> None:
        """Work in a thread of its own, unless one is at it."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self._thread = threading.Thread(target=self._guarded, args=(work,), daemon=True, name="compilation")
            self._thread.start()

    def _guarded(self, work: Any) -> None:
        try:
            work()
        except Exception as fault:  # A thread has nobody to raise to.
            kind = fault.kind if isinstance(fault, KiketError) else KiketError.kind
            events.ENGINE_COMPILATION_FAILED.log(
                worker=self._worker, error_kind=kind, error=str(fault).partition("\n")[0]
            )

    def close(self) -> None:
        """End what was begun in the background, and wait until nothing of it is left."""
        if self._thread is not None and self._thread.is_alive():
            self._cancellation.cancel(WorkerStopped("this worker ends"))
            self._thread.join(_CLOSE_SECONDS)

    def settle(self) -> None:
        """Wait until what was begun in the background has ended."""
        if self._thread is not None:
            self._thread.join()

    def _keep(self, compiled: Compiled, sha256: str) -> Compiled:
        with self._lock:
            self._kept[compiled.key] = _Kept(compiled, sha256, time.monotonic() + _FRESH_SECONDS)
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
        try:
            content = self._store.get(_path(key))
            sha256 = hashlib.sha256(content).hexdigest()
            with self._lock:
                kept = self._kept.get(key)
            # Loaded anew it would be the same in other places, and each time a worker's memory would be in more pieces.
            known = kept.compiled if kept and kept.sha256 == sha256 else None
            return self._keep(known or compiled_bundles.load(content, key), sha256)
        except FileNotFoundError:
            return None
        except CompiledBundleDamaged as fault:
            events.ENGINE_COMPILATION_FAILED.log(worker=self._worker, error_kind=fault.kind, error=str(fault))
            return None

    def _save(self, compiled: Compiled) -> None:
        """Store and keep it."""
        with workdir() as folder:
            file = folder / "compiled"
            content = compiled.dump()
            file.write_bytes(content)
            sha256 = hashlib.sha256(content).hexdigest()
            self._store.put(_path(compiled.key), file, sha256=sha256, content_type="application/gzip")
        self._keep(compiled, sha256)

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
