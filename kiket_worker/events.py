"""Every log event: its name, its fields, how loud it is, and what an operator does about it.

Names and fields are a public contract: alerting selects by them. Code logs through `Event.log`, so that an event that
is not listed here cannot be written, nor a field that its event does not name.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

_RUN = frozenset({"organization", "run_id", "attempt", "worker"})


@dataclass(frozen=True)
class Field:
    """What a field of a log line holds: a type of JSON, and its meaning. Lists are of strings."""

    json_type: str
    meaning: str


FIELDS = {
    "address": Field("string", "Host and port at which the process answers."),
    "answers": Field("integer", "Answers of the database with which the bundle is recorded by now."),
    "artifacts": Field("string", "The URL under which the attempt's files are."),
    "attempt": Field("integer", "The number of the attempt at the run, from 1."),
    "bundle_digest": Field("string", "The digest that names the dbt project as it was run."),
    "bytes": Field("integer", "Bytes stored, or bytes that the organisation's relations take."),
    "changes": Field("array", "The settings that were changed, each with its new value."),
    "client": Field("string", "The address that a request came from."),
    "concurrency": Field("integer", "Refreshes that the worker does at a time."),
    "definitions_version": Field("integer", "The version of the organisation's definitions, from 1."),
    "delay_seconds": Field("number", "Seconds until the run is tried again."),
    "drift": Field("array", "In what roles and schema differed from what they should be."),
    "duration_seconds": Field("number", "Seconds that it took; of a run's events, since the attempt began."),
    "error": Field("string", "What went wrong, in one line for people."),
    "error_kind": Field("string", "What went wrong, as a word to select by (docs/operations.md lists them)."),
    "files": Field("integer", "Files that were stored."),
    "interval_seconds": Field("number", "Seconds between two ticks."),
    "library": Field("string", "The logger of the library that spoke."),
    "message": Field("string", "What the library said."),
    "model_id": Field("string", "dbt's unique id of the model."),
    "models": Field("integer", "Models that were built."),
    "organization": Field("string", "The organisation's slug."),
    "overrun": Field("string", "Which limit the session overran."),
    "published": Field("integer", "Messages that were published."),
    "queued": Field("integer", "Runs that were queued."),
    "quota_bytes": Field("integer", "Bytes that the organisation's relations may take."),
    "reason": Field("string", "Why a run was asked for, or why dbt itself ran; a word to count by."),
    "reasons": Field("array", "Why the bundle is not replayed, or in what dbt differs from what is replayed."),
    "records": Field("integer", "Log records or spans that are lost, since it was last told."),
    "relation": Field("string", "The name of a table or view in the organisation's schema."),
    "releases": Field("integer", "Releases whose changelogs were evaluated."),
    "replayable": Field("boolean", "Whether the bundle can be replayed."),
    "requested_by": Field("string", "Who asked for it: a token by its id."),
    "role": Field("string", "The database role whose session it was."),
    "rows_affected": Field("integer", "Rows that the model wrote, as Postgres counts them."),
    "run_id": Field("string", "The run's id (UUID)."),
    "sessions_ended": Field("integer", "Database sessions of the earlier attempt that were ended."),
    "signal": Field("string", "What was lost: `logs` or `traces`."),
    "step_seconds": Field("number", "Seconds that this step of the run took by itself."),
    "usage_events": Field("integer", "Usage events that were recorded."),
    "worker": Field("string", "The worker's process, as host:pid."),
}


@dataclass(frozen=True)
class Event:
    """One kind of log line. `level` is a `logging` level; `remedy` is empty where nothing needs doing."""

    name: str
    level: int
    meaning: str
    fields: frozenset[str]
    remedy: str = ""

    @property
    def level_name(self) -> str:
        """The level as it stands in the log's lines."""
        return logging.getLevelName(self.level).lower()

    def log(self, **fields: Any) -> None:
        """Write the event. Raises `TypeError` for a field that the event does not have."""
        if unknown := fields.keys() - self.fields:
            raise TypeError(f"event {self.name} has no field {', '.join(sorted(unknown))}")
        present = {name: value for name, value in fields.items() if value is not None}
        structlog.get_logger().log(self.level, self.name, **present)
        for listener in tuple(_listeners):  # Other threads' come and go.
            listener(self, present)


Listener = Callable[[Event, Mapping[str, Any]], None]

_listeners: list[Listener] = []


def listen(listener: Listener) -> Callable[[], None]:
    """Call `listener` with each event that is written, in the thread that writes it; what is given back ends that."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


TICKER_STARTED = Event(
    "ticker.started",
    logging.INFO,
    "The ticker runs and will look for due organisations.",
    frozenset({"interval_seconds"}),
)
TICKER_TICKED = Event(
    "ticker.ticked",
    logging.INFO,
    "Due organisations were queued and waiting runs published.",
    frozenset({"queued", "published", "duration_seconds"}),
)
TICKER_FAILED = Event(
    "ticker.failed",
    logging.ERROR,
    "A tick ended early; what it had queued stays queued, and the next tick goes on.",
    frozenset({"error_kind", "error"}),
    "See that Postgres and RabbitMQ answer; nothing is lost meanwhile.",
)
WORKER_STARTED = Event("worker.started", logging.INFO, "A worker takes messages.", frozenset({"worker", "concurrency"}))
WORKER_STOPPED = Event("worker.stopped", logging.INFO, "A worker has ended in order.", frozenset({"worker"}))
WORKER_FAILED = Event(
    "worker.failed",
    logging.ERROR,
    "A message could not be handled for a reason that is not the run's own.",
    frozenset({"organization", "run_id", "worker", "error_kind", "error"}),
    "See that Postgres answers; the ticker publishes the run again.",
)
MONITORING_STARTED = Event(
    "monitoring.started",
    logging.INFO,
    "This process answers /metrics, /healthz and /readyz at `address`.",
    frozenset({"address"}),
)
CONSOLE_STARTED = Event(
    "console.started",
    logging.INFO,
    "The console answers at `address`.",
    frozenset({"address"}),
)
CONSOLE_FAILED = Event(
    "console.failed",
    logging.ERROR,
    "A request to the console could not be answered, for a reason that is not the caller's.",
    frozenset({"error_kind", "error"}),
    "By `error_kind`: see that Postgres answers and is migrated; report what is `internal`.",
)
CONSOLE_SETTINGS_CHANGED = Event(
    "console.settings_changed",
    logging.INFO,
    "An organisation's settings were changed by API or page.",
    frozenset({"organization", "requested_by", "changes"}),
)
CONSOLE_CANCEL_REQUESTED = Event(
    "console.cancel_requested",
    logging.INFO,
    "A run was to end, by API or page: at once if it waited, else as soon as its worker hears of it.",
    frozenset({"organization", "run_id", "requested_by"}),
)
CONSOLE_WAKING_FAILED = Event(
    "console.waking_failed",
    logging.WARNING,
    "A run that was asked for could not be published; it is in the ledger, and the ticker publishes it later.",
    frozenset({"error_kind", "error"}),
    "See that RabbitMQ answers; nothing is lost meanwhile.",
)
ACCESS_LIMITED = Event(
    "access.limited",
    logging.WARNING,
    "An address has asked the console too often without a valid token, and has to wait.",
    frozenset({"client"}),
    "If it is one of your services, give it a token that is valid; if not, nothing: it gets no answer.",
)
REFRESH_REJECTED = Event(
    "refresh.rejected",
    logging.WARNING,
    "A message does not follow the contract or names no organisation; it went to the dead letters.",
    frozenset({"error_kind", "error"}),
    "Mend the publisher by the reason given.",
)
RUN_QUEUED = Event(
    "run.queued",
    logging.INFO,
    "A refresh was asked for and is in the ledger.",
    frozenset({"organization", "run_id", "reason"}),
)
RUN_COALESCED = Event(
    "run.coalesced",
    logging.INFO,
    "A request joined the run that waits already.",
    frozenset({"organization", "run_id", "reason"}),
)
RUN_CLAIMED = Event(
    "run.claimed",
    logging.INFO,
    "A worker holds the lease and begins an attempt.",
    _RUN | {"step_seconds"},
)
RUN_TAKEN_OVER = Event(
    "run.taken_over",
    logging.WARNING,
    "The lease of an earlier attempt had expired; its database sessions were ended.",
    _RUN | {"sessions_ended"},
    "Find out why the earlier worker died; its last lines name it.",
)
RUN_SKIPPED = Event(
    "run.skipped",
    logging.WARNING,
    "The run ended before an attempt: the organisation is disabled, gone, or has no valid slug.",
    frozenset({"organization", "run_id", "error_kind", "error"}),
    "Enable the organisation or stop asking for it.",
)
MODEL_FINISHED = Event(
    "model.finished",
    logging.INFO,
    "One model was built.",
    _RUN | {"model_id", "duration_seconds", "rows_affected"},
)
MODEL_FAILED = Event(
    "model.failed",
    logging.WARNING,
    "One model failed or was skipped because of another.",
    _RUN | {"model_id", "duration_seconds", "error"},
    "The model's author mends it; the run's artifacts hold the compiled SQL.",
)
ENGINE_DEOPTIMISED = Event(
    "engine.deoptimised",
    logging.INFO,
    "dbt itself ran, because this run could not be replayed; `reason` is a word to count by.",
    _RUN | {"reason", "error"},
    "Where one reason comes often, `kiket-worker engine explain` says which model it is and why.",
)
ENGINE_COMPILED = Event(
    "engine.compiled",
    logging.INFO,
    "dbt was recorded for a bundle; without `replayable`, each refresh of it runs dbt itself, for the reasons given.",
    frozenset({"worker", "bundle_digest", "duration_seconds", "replayable", "reasons"}),
    "Mend the models that are named, or live with refreshes that take a hundred times as long.",
)
ENGINE_LEARNED = Event(
    "engine.learned",
    logging.INFO,
    "dbt was recorded with an answer of the database that was not known before.",
    frozenset({"worker", "bundle_digest", "answers", "replayable"}),
)
ENGINE_COMPILATION_FAILED = Event(
    "engine.compilation_failed",
    logging.WARNING,
    "A bundle could not be compiled or loaded; its refreshes run dbt itself meanwhile, and it is tried again.",
    frozenset({"worker", "error_kind", "error"}),
    "See what the error says; nothing is lost.",
)
ENGINE_CHECKED = Event(
    "engine.checked",
    logging.INFO,
    "Real dbt was run for an organisation beside its schema, and does what is replayed.",
    frozenset({"organization", "worker", "bundle_digest", "duration_seconds"}),
)
ENGINE_REFUTED = Event(
    "engine.refuted",
    logging.ERROR,
    "Real dbt does something else for an organisation than is replayed; the bundle is not replayed any more.",
    frozenset({"organization", "worker", "bundle_digest", "duration_seconds", "reasons"}),
    "Refresh the organisations again (dbt itself runs now) and report the reasons: the proof has a hole.",
)
RUN_BUILT = Event(
    "run.built",
    logging.INFO,
    "Every model was built.",
    _RUN | {"duration_seconds", "step_seconds", "models", "definitions_version"},
)
RUN_ARCHIVED = Event(
    "run.archived",
    logging.INFO,
    "Every artifact of the attempt is stored and indexed.",
    _RUN | {"duration_seconds", "step_seconds", "artifacts", "files", "bytes"},
)
RELATION_DROPPED = Event(
    "relation.dropped",
    logging.INFO,
    "A relation was removed, because no model of the organisation's makes it any more.",
    _RUN | {"relation"},
)
RELATION_RETAINED = Event(
    "relation.retained",
    logging.WARNING,
    "A relation that no model makes any more could not be removed; the next run tries again.",
    _RUN | {"relation", "error"},
    "See what depends on it, or who holds it locked: `error` says so.",
)
RUN_SUCCEEDED = Event(
    "run.succeeded",
    logging.INFO,
    "The run is complete and its usage recorded.",
    _RUN | {"duration_seconds", "step_seconds", "usage_events"},
)
RUN_FAILED = Event(
    "run.failed",
    logging.ERROR,
    "The run ended without success; the organisation is next tried at its cadence.",
    _RUN | {"duration_seconds", "error_kind", "error", "artifacts"},
    "By `error_kind`: a model's fault is its author's, anything else the operator's.",
)
RUN_RETRIED = Event(
    "run.retried",
    logging.WARNING,
    "An attempt met a fault that may pass; the run waits and is tried again.",
    _RUN | {"duration_seconds", "error_kind", "error", "delay_seconds"},
    "Nothing, unless it goes on: then see to the service that `error_kind` names.",
)
RUN_HANDED_BACK = Event(
    "run.handed_back",
    logging.INFO,
    "A worker that has to end gave its run back unfinished; the attempt does not count.",
    _RUN | {"duration_seconds"},
)
ORGANIZATION_QUARANTINED = Event(
    "organization.quarantined",
    logging.ERROR,
    "The attempts at a run crashed their workers too often: nothing of the organisation is refreshed any more.",
    frozenset({"organization", "run_id", "error_kind", "error"}),
    "Find what kills the workers (memory?), then `kiket-worker settings release SLUG`.",
)
RUN_CANCELLED = Event("run.cancelled", logging.WARNING, "The run was ended on request.", _RUN | {"duration_seconds"})
LEASE_LOST = Event(
    "lease.lost",
    logging.ERROR,
    "This attempt lost its lease: its dbt was killed and it wrote nothing more.",
    _RUN | {"error"},
    "Look for pauses or partitions between this worker and Postgres.",
)
ISOLATION_WEAKENED = Event(
    "isolation.weakened",
    logging.WARNING,
    "Organisations share one database role: only the models' filters keep their rows apart, not the database.",
    frozenset({"worker"}),
    "Set up roles (`kiket-worker migrate --roles`) and leave KIKET_ISOLATION out, or accept it (docs/isolation.md).",
)
TENANT_PROVISIONED = Event(
    "tenant.provisioned",
    logging.INFO,
    "An organisation's database roles and schema were made or mended; `drift` says in what they differed.",
    frozenset({"organization", "drift"}),
)
TENANT_SESSION_ENDED = Event(
    "tenant.session_ended",
    logging.WARNING,
    "A session of the organisation took longer than it may and was ended, and its run with it.",
    _RUN | {"overrun", "duration_seconds"},
    "The model's author makes it cheaper; or raise KIKET_TENANT_STATEMENT_SECONDS or KIKET_TENANT_IDLE_SECONDS.",
)
TENANT_SESSION_TERMINATED = Event(
    "tenant.session_terminated",
    logging.WARNING,
    "A session of a dashboard, or of a tenant that is not being refreshed, took longer than it may and was ended.",
    frozenset({"role", "overrun", "duration_seconds"}),
    "Whoever runs dashboards makes the query cheaper, or ends its transactions; or raise the same two variables.",
)
TENANT_QUOTA_EXCEEDED = Event(
    "tenant.quota_exceeded",
    logging.ERROR,
    "The organisation's relations take more room than it may have; its run failed.",
    _RUN | {"bytes", "quota_bytes"},
    "The models' author makes them smaller, or raise KIKET_TENANT_QUOTA_MEGABYTES.",
)
SHARED_REFRESHED = Event(
    "shared.refreshed",
    logging.INFO,
    "The shared models were built.",
    frozenset({"worker", "duration_seconds", "models", "artifacts"}),
)
SHARED_FAILED = Event(
    "shared.failed",
    logging.ERROR,
    "The shared models were not built; organisations go on with those of the last time, if there are any.",
    frozenset({"worker", "duration_seconds", "error_kind", "error", "artifacts"}),
    "By `error_kind`, as for `run.failed`; it is tried again after ten minutes.",
)
CHANGELOG_EVALUATED = Event(
    "changelog.evaluated",
    logging.INFO,
    "The releases whose changelogs have changed were evaluated, and exported where a file is named.",
    frozenset({"releases", "duration_seconds"}),
)
CHANGELOG_FAILED = Event(
    "changelog.failed",
    logging.WARNING,
    "Changelogs were not all evaluated, or not exported; what is stored stays, and it is tried again.",
    frozenset({"error_kind", "error", "duration_seconds"}),
    "By `error_kind`; `kiket-worker changelog evaluate` does by hand what is left.",
)
TELEMETRY_DROPPED = Event(
    "telemetry.dropped",
    logging.WARNING,
    "Log records or spans did not get to the collector and are lost; runs are not affected, and their files have them.",
    frozenset({"signal", "records"}),
    "See that the collector at OTEL_EXPORTER_OTLP_ENDPOINT answers and keeps up.",
)
DEFINITIONS_PUBLISHED = Event(
    "definitions.published",
    logging.INFO,
    "An organisation was switched to definitions that were published.",
    frozenset({"organization", "definitions_version", "bundle_digest"}),
)
DEFINITIONS_ROLLED_BACK = Event(
    "definitions.rolled_back",
    logging.INFO,
    "An organisation was switched to definitions that it had before.",
    frozenset({"organization", "definitions_version", "bundle_digest"}),
)
LIBRARY_WARNED = Event(
    "library.warned",
    logging.WARNING,
    "A library that the worker uses had something to say; the line's level is the library's.",
    frozenset({"library", "message"}),
    "Read the message; it matters where a failure of the worker's own stands beside it.",
)

CATALOGUE: dict[str, Event] = {value.name: value for value in list(globals().values()) if isinstance(value, Event)}
