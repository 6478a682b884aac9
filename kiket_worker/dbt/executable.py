"""The executable engine: `dbt run` as a child process. Any dbt will do; it is the reference for what dbt means."""

import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO

from kiket_worker.artifacts.assembly import Page
from kiket_worker.dbt import own_telemetry
from kiket_worker.dbt.bundle import Bundle
from kiket_worker.dbt.child import run_child
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.dbt.docs import take_apart
from kiket_worker.dbt.engine import Cancellation, Listener, Options, Outcome, SharedModels, Tenant
from kiket_worker.dbt.guard import CANNOT_EXECUTE
from kiket_worker.dbt.invocation import arguments, command_of, environment
from kiket_worker.dbt.log import LOG_NAME, DbtLog
from kiket_worker.dbt.redaction import Names, redact_results, words_of
from kiket_worker.dbt.results import (
    ModelResult,
    check_schemas,
    error_of_event,
    failure_of,
    is_interruption,
    model_of_event,
    read_results,
)
from kiket_worker.errors import (
    BuildFailed,
    DatabaseInterrupted,
    DbtExecutableMissing,
    DbtFailed,
    DbtNoResults,
    DbtTimedOut,
    KiketError,
    SelectionEmpty,
)

_LINE_LIMIT_BYTES = 1024 * 1024  # A longer line is cut in two; dbt's own are far shorter.
_OUTPUT_LINES_KEPT = 20


@dataclass
class _Invocation:
    """What one child process said and how it ended."""

    exit_code: int = 0
    errors: list[str] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    version: str | None = None

    def last_words(self) -> str:
        # On lines of their own: the log takes the first line only, as the others may hold values of rows.
        return "\n".join(self.errors[-3:] or self.output[-3:]) or "it printed nothing"


class ExecutableEngine:
    """Runs whatever dbt executable it is given, each run in a process group and folders of its own."""

    name = "executable"

    def __init__(
        self,
        executable: Path,
        connection: DbtConnection,
        *,
        time_limit_seconds: float,
        command: str = "run",
        has_telemetry: bool = False,
    ) -> None:
        """`command` is dbt's: `run` builds models, and seeds where there are any; `build` also snapshots and tests.

        With `has_telemetry`, the executable writes records of OpenTelemetry by itself, as Fusion does.
        """
        self._has_telemetry = has_telemetry
        self._executable = executable
        self._connection = connection
        self._time_limit_seconds = time_limit_seconds
        self._command = command

    def run(
        self,
        bundle: Bundle,
        tenant: Tenant | SharedModels,
        options: Options,
        listener: Listener,
        cancellation: Cancellation,
    ) -> Outcome:
        """See `Engine.run`."""
        if isinstance(tenant, Tenant) and tenant.session is not None:
            tenant.session.close()  # dbt has sessions of its own, and nobody waits in this one meanwhile.
        target = options.workdir / "target"
        names = self.names(bundle, tenant)
        log = DbtLog(options, listener, names)
        models: tuple[ModelResult, ...] = ()
        docs: Page | None = None
        failure: KiketError | None = None
        invocation = _Invocation()
        with time_limit(self._time_limit_seconds, cancellation):
            try:
                command = [
                    self._find_executable(),
                    *command_of(self._command, bundle),
                    *arguments(bundle, tenant, workdir=options.workdir, target=target),
                    *(["--full-refresh"] if options.full_refresh else []),
                    *(own_telemetry.option() if self._has_telemetry else []),
                    # Joined by `=`, or what a message selects could be an option: --vars of another organisation.
                    *(f"--select={item}" for item in options.selection),
                    *(f"--exclude={item}" for item in options.exclusion),
                ]
                try:
                    self._invoke(
                        invocation,
                        command,
                        listener.on_model,
                        tenant=tenant,
                        options=options,
                        cancellation=cancellation,
                        log=log,
                    )
                finally:
                    _redact(target / "run_results.json", names)
                check_schemas(target / "manifest.json", tenant.schema, options.exclusion)
                models = self._judge(invocation, target, options)
                if options.docs:
                    docs = self.document(bundle, tenant, options, cancellation, log)
            except BuildFailed as fault:
                failure = fault
                models = models or _results_if_any(target)
            finally:
                cut = log.close()
        files = {
            "manifest.json": target / "manifest.json",
            "run_results.json": target / "run_results.json",
            "catalog.json": catalog_of(options),
            LOG_NAME: log.path,
        }
        if self._has_telemetry:
            found, left_out = own_telemetry.gather(options.workdir, options.most_log_bytes, names)
            files, cut = files | found, cut | left_out
        return Outcome(
            models=models,
            files={name: path for name, path in files.items() if path.is_file()},
            versions={"dbt": invocation.version} if invocation.version else {},
            failure=cancellation.reason or failure,
            engine=self.name,
            cut=cut,
            docs=docs,
        )

    def names(self, bundle: Bundle, tenant: Tenant | SharedModels) -> Callable[[], Names]:
        """What an error may name: the project's words, the tenant's names, and where the database is.

        Put together when the first error asks.
        """
        connection = self._connection
        ours = (*map(str, tenant.variables.values()), tenant.schema, tenant.user or connection.user)
        return cache(lambda: bundle.words | words_of(*ours, connection.host, connection.database))

    def document(
        self,
        bundle: Bundle,
        tenant: Tenant | SharedModels,
        options: Options,
        cancellation: Cancellation,
        log: DbtLog,
    ) -> Page:
        """Have dbt describe what there is: its `catalog.json`, and a page that is given. Raises `DbtFailed`.

        The catalog is read from the database, so this comes after the models; in a folder of its own, because dbt
        writes its run results again.
        """
        folder, invocation = catalog_of(options).parent, _Invocation()
        command = [
            *(self._find_executable(), "docs", "generate", "--static"),
            *arguments(bundle, tenant, workdir=options.workdir, target=folder),
        ]
        self._invoke(
            invocation,
            command,
            Listener().on_model,
            tenant=tenant,
            options=options,
            cancellation=cancellation,
            log=log,
        )
        if invocation.exit_code != 0:
            raise DbtFailed(f"dbt docs generate ended with code {invocation.exit_code}: {invocation.last_words()}")
        return take_apart(folder)

    def _find_executable(self) -> str:
        """The executable by path, beside this Python, or on PATH. Raises `DbtExecutableMissing`."""
        search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        if found := shutil.which(self._executable, path=search):
            # Not resolved: a virtualenv's dbt is known by its link. Absolute, because dbt starts in the run's folder.
            return str(Path(found).absolute())
        raise DbtExecutableMissing(
            f"there is no dbt executable {str(self._executable)!r} that can be run; "
            "KIKET_DBT_EXECUTABLE has to name one, as a path or on PATH"
        )

    def _invoke(
        self,
        invocation: _Invocation,
        command: list[str],
        on_model: Callable[[ModelResult], None],
        *,
        tenant: Tenant | SharedModels,
        options: Options,
        cancellation: Cancellation,
        log: DbtLog,
    ) -> None:
        invocation.exit_code = run_child(
            command,
            folder=options.workdir,
            environment=environment(
                self._connection, tenant, workdir=options.workdir, application_name=options.application_name
            ),
            read=lambda pipe: _read(pipe, log, invocation, on_model, cancellation),
            cancellation=cancellation,
        )
        if invocation.exit_code == CANNOT_EXECUTE:
            raise DbtExecutableMissing(f"the dbt executable {command[0]} cannot be run: {invocation.last_words()}")

    def _judge(self, invocation: _Invocation, target: Path, options: Options) -> tuple[ModelResult, ...]:
        """The results, if dbt says in every way that it succeeded. Raises the `BuildFailed` that says why not."""
        try:
            models = read_results(target / "run_results.json")
        except DbtNoResults as fault:
            if invocation.exit_code != 0 and invocation.errors:
                if is_interruption(invocation.last_words()):
                    raise DatabaseInterrupted(f"dbt lost Postgres: {invocation.last_words()}") from None
                raise DbtFailed(
                    f"dbt ended with code {invocation.exit_code} before it built anything: {invocation.last_words()}"
                ) from None
            raise DbtNoResults(
                f"{fault}; it ended with code {invocation.exit_code} and said last: {invocation.last_words()}"
            ) from None
        if failure := failure_of(models):
            raise failure
        if invocation.exit_code != 0:
            raise DbtFailed(f"dbt ended with code {invocation.exit_code}: {invocation.last_words()}")
        if not models:
            raise SelectionEmpty(f"no model is selected by {' '.join(options.selection) or 'the whole project'}")
        return models


@contextmanager
def time_limit(seconds: float, cancellation: Cancellation) -> Iterator[None]:
    """Cancel what takes longer than that until the block ends."""
    timer = threading.Timer(
        seconds,
        cancellation.cancel,
        [DbtTimedOut(f"dbt did not end within {seconds:g} seconds (KIKET_RUN_TIME_LIMIT_SECONDS) and was stopped")],
    )
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def catalog_of(options: Options) -> Path:
    """Where the catalog of a run lies, if its docs are wanted."""
    return options.workdir / "docs" / "catalog.json"


def _redact(results: Path, names: Callable[[], Names]) -> None:
    """Take the values of rows out of what dbt has written. A file of another shape is found out by who reads it."""
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        document = json.loads(results.read_bytes())
        if redact_results(document, names):
            results.write_text(json.dumps(document), encoding="utf-8")


def _results_if_any(target: Path) -> tuple[ModelResult, ...]:
    try:
        return read_results(target / "run_results.json")
    except DbtNoResults:
        return ()


def _read(
    pipe: IO[bytes],
    log: DbtLog,
    invocation: _Invocation,
    on_model: Callable[[ModelResult], None],
    cancellation: Cancellation,
) -> None:
    """Follow the child's output line by line: keep it as the log, and pass on what it tells of models."""
    try:
        while line := pipe.readline(_LINE_LIMIT_BYTES):
            event = log.read(line)
            if isinstance(event, str):
                invocation.output += [event[:500].strip()] if event.strip() else []
                del invocation.output[:-_OUTPUT_LINES_KEPT]
                continue
            if (version := event["data"].get("version")) and event["info"].get("name") == "MainReportVersion":
                invocation.version = str(version).removeprefix("=")
            if error := error_of_event(event):
                invocation.errors.append(error)
                del invocation.errors[:-_OUTPUT_LINES_KEPT]
            if model := model_of_event(event):
                on_model(model)
    except KiketError as fault:
        cancellation.cancel(fault)
    except Exception as fault:  # Nobody reads on: dbt would wait for ever at a full pipe, whatever the reason.
        cancellation.cancel(BuildFailed(f"dbt's output could not be kept: {fault}"))
