"""A worker: messages in, refreshes done, and everything stopped when the process has to end."""

import threading
from uuid import UUID

from kiket_worker import events
from kiket_worker.contract import RefreshMessage
from kiket_worker.dbt.engine import Cancellation
from kiket_worker.errors import (
    LeaseLost,
    LedgerForbidden,
    LedgerNotMigrated,
    ServiceUnreachable,
    UnknownRun,
    WorkerStopped,
)
from kiket_worker.ledger import outbox, runs
from kiket_worker.refresh.pipeline import refresh
from kiket_worker.refresh.requests import accept
from kiket_worker.refresh.services import Services

_PATIENCE_SECONDS = 5.0


class RefreshWorker:
    """Handles refresh messages, each in the thread that brings it."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._ending = threading.Event()
        self._stopped = False
        self._lock = threading.Lock()
        self._active: set[Cancellation] = set()

    def handle(self, message: RefreshMessage) -> None:
        """Do what a message asks for; return when it can be acknowledged.

        Waits as long as Postgres is away or the ledger cannot be used, so that nothing is acknowledged that the ledger
        does not hold. Raises `UnknownOrganization`, and `WorkerStopped` when the process ends before the message could
        be handled.
        """
        run_id: UUID | None = None
        while True:
            if self._ending.is_set():
                raise WorkerStopped("this worker ends; another one takes the message")
            try:
                run_id = run_id or self._run_of(message)
                self.execute(run_id)
            except LeaseLost:
                return  # The run is another worker's, and so is its message by now.
            except (ServiceUnreachable, LedgerNotMigrated, LedgerForbidden) as fault:
                events.WORKER_FAILED.log(
                    organization=message.organization,
                    run_id=str(run_id) if run_id else None,
                    worker=self._services.worker,
                    error_kind=fault.kind,
                    error=str(fault),
                )
                self._ending.wait(_PATIENCE_SECONDS)
            else:
                return

    def _run_of(self, message: RefreshMessage) -> UUID:
        """The run that a message of the worker's own names, or else the one that serves it as a request."""
        database = self._services.database
        if message.kiket_run_id:
            try:
                if runs.get(database, message.kiket_run_id).organization_slug == message.organization:
                    return message.kiket_run_id
            except UnknownRun:
                pass  # From before a restore of the ledger, or made up: what it asks for is asked for anew.
        return accept(database, message).run_id

    def execute(self, run_id: UUID) -> None:
        """Refresh by a run, and wake the one that waits behind it, if any. Raises what `refresh` raises."""
        cancellation = Cancellation()
        with self._lock:
            self._active.add(cancellation)
            if self._stopped:
                cancellation.cancel(_stopped_at_once())
        try:
            status = refresh(run_id, self._services, cancellation)
        finally:
            with self._lock:
                self._active.discard(cancellation)
        if status and status.has_ended:
            self._publish_next(run_id)

    def in_hand(self) -> int:
        """Refreshes that go on now."""
        return len(self._active)

    def finish(self) -> None:
        """Begin nothing new; what goes on may go on."""
        self._ending.set()

    def stop(self) -> None:
        """End every refresh at once, with its dbt, and hand the runs back to other workers."""
        self._ending.set()
        with self._lock:
            self._stopped = True
            for cancellation in self._active:
                cancellation.cancel(_stopped_at_once())

    def _publish_next(self, run_id: UUID) -> None:
        database = self._services.database
        try:
            outbox.publish_of(database, self._services.publish, runs.get(database, run_id).organization_id)
        except ServiceUnreachable as fault:
            # The ticker publishes it at its next tick.
            events.WORKER_FAILED.log(worker=self._services.worker, error_kind=fault.kind, error=str(fault))


def _stopped_at_once() -> WorkerStopped:
    return WorkerStopped("this worker ends; another one takes the run")
