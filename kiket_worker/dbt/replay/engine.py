"""The replay engine: what dbt was recorded to do is done again for a tenant; else dbt itself runs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import uuid4

from psycopg import Connection, OperationalError

from kiket_worker.artifacts.assembly import Page
from kiket_worker.dbt.bundle import Bundle
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.dbt.engine import Cancellation, Deoptimisation, Listener, Options, Outcome, SharedModels, Tenant
from kiket_worker.dbt.executable import ExecutableEngine, catalog_of, time_limit
from kiket_worker.dbt.log import LOG_NAME, DbtLog
from kiket_worker.dbt.replay.compiled import Compiled
from kiket_worker.dbt.replay.documents import Documents
from kiket_worker.dbt.replay.probe import values_of
from kiket_worker.dbt.replay.replayer import Deoptimised, NodeRun, Question, Replayer, connect
from kiket_worker.dbt.results import ModelResult, failure_of
from kiket_worker.errors import DatabaseInterrupted, DbtFailed, KiketError


class Library(Protocol):
    """Where compiled bundles are found."""

    def find(self, bundle: Bundle, tenant: Tenant, options: Options) -> Compiled:
        """The compiled bundle. Raises `Deoptimised` where there is none yet."""
        ...

    def prepare(self, bundle: Bundle, tenant: Tenant, options: Options) -> None:
        """Have the bundle compiled in the background, if it is not yet."""
        ...

    def close(self) -> None:
        """End what goes on in the background."""
        ...

    def check(self, compiled: Compiled, bundle: Bundle, tenant: Tenant, options: Options) -> None:
        """Have real dbt run for a tenant beside its schema, and compare what it does with what was replayed."""
        ...

    def learn(self, bundle: Bundle, tenant: Tenant, options: Options, question: Question) -> None:
        """Have dbt recorded with this answer, so that the next replay knows it."""
        ...


class ReplayEngine:
    """Replays compiled bundles, and hands what it cannot replay to the executable engine as a whole run.

    With `partial`, what a failing model does not touch is published, as dbt does; else nothing of a failed run is. A
    `checked_share` of the replays, from 0 to 1, is compared with dbt itself afterwards.
    """

    name = "replay"

    def __init__(
        self,
        executable: ExecutableEngine,
        connection: DbtConnection,
        library: Library,
        *,
        time_limit_seconds: float,
        partial: bool,
        checked_share: float = 0.0,
        random: Callable[[], float] = lambda: 1.0,
    ) -> None:
        self.executable = executable
        self._connection = connection
        self.library = library
        self._time_limit_seconds = time_limit_seconds
        self._partial = partial
        self._checked_share = checked_share
        self._random = random

    def run(
        self,
        bundle: Bundle,
        tenant: Tenant | SharedModels,
        options: Options,
        listener: Listener,
        cancellation: Cancellation,
    ) -> Outcome:
        """See `Engine.run`. A replay tells of its events when all is done: it takes no time worth watching."""
        if isinstance(tenant, SharedModels):  # Once a day for all organisations.
            return self.executable.run(bundle, tenant, options, listener, cancellation)
        # One limit for both: what a replay has taken before it gave up is taken from dbt's time.
        with time_limit(self._time_limit_seconds, cancellation):
            try:
                compiled = self._compiled(bundle, tenant, options)
                outcome = self._replay(compiled, bundle, tenant, options, listener, cancellation)
            except Deoptimised as fault:
                if fault.question is not None:
                    self.library.learn(bundle, tenant, options, fault.question)
                outcome = self.executable.run(bundle, tenant, options, listener, cancellation)
                return replace(outcome, deoptimised=Deoptimisation(fault.reason, str(fault)))
        if outcome.failure is None and self._random() < self._checked_share:
            self.library.check(compiled, bundle, tenant, options)
        return outcome

    def _compiled(self, bundle: Bundle, tenant: Tenant, options: Options) -> Compiled:
        if options.selection:
            raise Deoptimised("selection", "dbt was recorded for the whole project, and this run selects a part")
        compiled = self.library.find(bundle, tenant, options)
        if not compiled.is_replayable:
            raise Deoptimised("not_replayable", compiled.reasons[0])
        return compiled

    def _session(self, tenant: Tenant, options: Options) -> AbstractContextManager[Connection[Any]]:
        if tenant.session is not None and not tenant.session.closed:
            return _named(tenant.session, options.application_name)
        connection = self._connection
        if tenant.user is not None:
            connection = connection.logged_in_as(tenant.user, tenant.password)
        return connect(connection.address, connection.user, connection.password, options.application_name)

    def _replay(
        self,
        compiled: Compiled,
        bundle: Bundle,
        tenant: Tenant,
        options: Options,
        listener: Listener,
        cancellation: Cancellation,
    ) -> Outcome:
        target = options.workdir / "target"
        names = self.executable.names(bundle, tenant)
        log = DbtLog(options, listener, names)
        values = values_of(tenant.organization_id, tenant.slug, tenant.schema) | {
            "workdir": str(options.workdir),
            "project_dir": str(bundle.project_dir.absolute()),
        }
        started_at, invocation_id = datetime.now(UTC), str(uuid4())
        values |= {"invocation": invocation_id, "started_at": str(started_at)}
        values["started_at_iso"] = values["started_at"].replace(" ", "T")
        runs: Sequence[NodeRun] = ()
        failure: KiketError | None = None
        docs: Page | None = None
        files = {}
        try:
            with self._session(tenant, options) as session:
                replayer = Replayer(
                    session,
                    compiled,
                    values,
                    full_refresh=options.full_refresh,
                    target=str(target),
                    cancellation=cancellation,
                    known=names,
                    most_bytes=options.most_bytes,
                )
                runs = replayer.run(partial=self._partial)
            failure = _failure_of(runs)
            Documents(
                compiled,
                values,
                runs,
                variables=tenant.variables,
                invocation_id=invocation_id,
                started_at=started_at,
                ended_at=datetime.now(UTC),
                full_refresh=options.full_refresh,
            ).write(target, log)
            files = {name: target / name for name in ("manifest.json", "run_results.json")} | {LOG_NAME: log.path}
            if options.docs and failure is None:
                docs = self.executable.document(bundle, tenant, options, cancellation, log)
                files["catalog.json"] = catalog_of(options)
        except KiketError as fault:
            failure = fault
        finally:
            cut = log.close()
        return Outcome(
            models=_models(runs),
            files=files,
            versions={"dbt": compiled.versions["dbt-core"]},
            failure=cancellation.reason or failure,
            engine=self.name,
            cut=cut,
            docs=docs,
        )


@contextmanager
def _named(session: Connection[Any], application_name: str) -> Iterator[Connection[Any]]:
    """The session that was opened before, by the run's name, and sending statements as they are."""
    session.prepare_threshold = None
    try:
        session.execute("select set_config('application_name', %s, false)", [application_name])
    except OperationalError as fault:
        raise DatabaseInterrupted(f"the session of {session.info.user} was ended: {fault}") from fault
    yield session


def _models(runs: Sequence[NodeRun]) -> tuple[ModelResult, ...]:
    return tuple(
        ModelResult(
            run.node.unique_id,
            run.status,
            max(0.0, run.seconds),
            rows if (rows := (run.response or {}).get("rows_affected", -1)) >= 0 else None,
            None if run.status == "success" else run.message,
            None if run.status == "skipped" else run.started_at,
        )
        for run in runs
        if run.node.resource_type == "model"
    )


def _failure_of(runs: Sequence[NodeRun]) -> KiketError | None:
    if failure := failure_of(_models(runs)):
        return failure
    failed = [run for run in runs if run.status in {"error", "fail"}]
    if not failed:
        return None
    names = ", ".join(run.node.name for run in failed)
    return DbtFailed(f"{len(failed)} of {len(runs)} nodes failed: {names}. {failed[0].message}")
