"""What every dbt engine takes and gives: `run(bundle, tenant, options) → outcome`, with events while it goes on."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from psycopg import Connection

from kiket_worker.artifacts.assembly import Page
from kiket_worker.dbt.bundle import Bundle
from kiket_worker.dbt.results import ModelResult
from kiket_worker.errors import KiketError
from kiket_worker.telemetry.rotation import MOST_BYTES, Cut


@dataclass(frozen=True)
class Tenant:
    """The organisation that dbt builds for: what its models may rely on, and as whom dbt connects.

    Without a user, dbt connects as the one login that all organisations share. `session` is one of the user's that is
    open and known to be its own; whoever made it closes it.
    """

    target: ClassVar[str] = "organization"

    organization_id: int
    slug: str
    schema: str
    shared_schema: str
    raw_schema: str = "public"
    ledger_schema: str = "kiket_analytics"
    user: str | None = None
    password: str = field(default="", repr=False)
    session: Connection[Any] | None = field(default=None, repr=False, compare=False)

    @property
    def variables(self) -> dict[str, int | str]:
        """The vars of the dbt project."""
        return {
            "organization_id": self.organization_id,
            "organization_slug": self.slug,
            "organization_schema": self.schema,
            "shared_schema": self.shared_schema,
            "raw_schema": self.raw_schema,
            "ledger_schema": self.ledger_schema,
        }


@dataclass(frozen=True)
class SharedModels:
    """What dbt builds for all organisations at once: no organisation's names, and as whom dbt connects."""

    target: ClassVar[str] = "shared"

    schema: str
    user: str | None = None
    password: str = field(default="", repr=False)

    @property
    def variables(self) -> dict[str, int | str]:
        """The vars of the dbt project."""
        return {"shared_schema": self.schema}


@dataclass(frozen=True)
class Options:
    """How to build. `application_name` marks every database session, so that it can be found and ended.

    `most_bytes` is how much room the schema may take while it is built, for an engine that does not commit meanwhile.
    `most_log_bytes` is how long dbt's log may be; of a longer one, the middle is left out.
    """

    workdir: Path
    application_name: str
    full_refresh: bool = False
    docs: bool = False
    selection: tuple[str, ...] = ()
    exclusion: tuple[str, ...] = ()
    most_bytes: int | None = None
    most_log_bytes: int = MOST_BYTES


@dataclass(frozen=True)
class Deoptimisation:
    """Why dbt itself had to do what could not be replayed: a word to count by, and the reason in full."""

    reason: str
    words: str


@dataclass(frozen=True)
class Outcome:
    """What an engine has built, and the files that it leaves for the archive, by their names there.

    `engine` is the one that did the work in the end, and `deoptimised` why it is not the one that was asked. `cut` is
    what was left out of files that were too long, by their names, and `docs` the page of dbt's docs, if it was wanted.
    """

    models: tuple[ModelResult, ...]
    files: dict[str, Path] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    failure: KiketError | None = None
    engine: str | None = "executable"
    deoptimised: Deoptimisation | None = None
    cut: dict[str, Cut] = field(default_factory=dict)
    docs: Page | None = None


def _ignore(_: object) -> None:
    pass


@dataclass(frozen=True)
class Listener:
    """Who is told what goes on in a build, in whatever thread the engine learns of it.

    `on_model` hears of each model as it starts and ends, where that takes time worth watching. `on_event` gets every
    event of dbt's structured log (https://docs.getdbt.com/reference/events-logging), with no values of rows in it. What
    they raise ends the build.
    """

    on_model: Callable[[ModelResult], None] = _ignore
    on_event: Callable[[dict[str, Any]], None] = _ignore


class Engine(Protocol):
    """Runs one bundle for one tenant."""

    name: str

    def run(
        self,
        bundle: Bundle,
        tenant: Tenant | SharedModels,
        options: Options,
        listener: Listener,
        cancellation: "Cancellation",
    ) -> Outcome:
        """Build the tenant's models.

        A build that fails is an outcome with a `failure`, because what it leaves is archived too. Ends soon after
        `cancellation` is cancelled, with nothing of it still running in this machine, and the failure given there.
        """
        ...


class Cancellation:
    """Tells a build from another thread that it has to end, and why; or that it may go on, and until when.

    The first reason to end counts. The moment until which it may go on is a time of the system's monotonic clock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reason: KiketError | None = None
        self._running: list[tuple[Callable[[], None], Callable[[float], None]]] = []
        self._until: float | None = None

    @property
    def reason(self) -> KiketError | None:
        """Why the build has to end, or None while it need not."""
        return self._reason

    def may_go_on(self, now: float) -> bool:
        """Whether the moment until which it may go on lies ahead, by the monotonic clock."""
        return self._until is not None and now < self._until

    def has_run_out(self, now: float) -> bool:
        """Whether that moment has passed; never where none was set."""
        return self._until is not None and now >= self._until

    def cancel(self, reason: KiketError) -> None:
        """End what is going on, now and, if nothing is yet, as soon as it begins."""
        with self._lock:
            self._reason = self._reason or reason
            for stop, _ in self._running:
                stop()

    def allow(self, until: float) -> None:
        """Let what is going on go on until then, and no longer unless this is said again."""
        with self._lock:
            self._until = until
            for _, prolong in self._running:
                prolong(until)

    @contextmanager
    def reaching(self, stop: Callable[[], None], prolong: Callable[[float], None]) -> Iterator[None]:
        """Call `stop` on a cancellation and `prolong` on an allowance until the block ends.

        At once for what was said before. Several may go on at a time, and each of them is told.
        """
        running = (stop, prolong)
        with self._lock:
            self._running.append(running)
            if self._until is not None:
                prolong(self._until)
            if self._reason:
                stop()
        try:
            yield
        finally:
            with self._lock:
                self._running.remove(running)
