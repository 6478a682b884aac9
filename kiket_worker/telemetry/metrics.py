"""Counters that are fed by the events: whatever writes an event is counted, and knows nothing of it.

Each label has a closed set of values, none of which names an organisation, a run or a model; every series is there from
the start, because Prometheus sees no increase in a counter that appears with its first failure.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram

from kiket_worker import errors, events
from kiket_worker.errors import KiketError
from kiket_worker.events import CATALOGUE, Event

OTHER = "other"

_KINDS = {kind.kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, KiketError)}
_RETRYABLE_KINDS = {
    kind.kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, KiketError) and kind.retryable
}
_FAULTS = (events.WORKER_FAILED, events.TICKER_FAILED)
# What keeps a whole process from its work, not one run.
_FAULT_KINDS = {
    *("postgres_unreachable", "rabbitmq_unreachable", "artifacts_unreachable", "service_unreachable"),
    *("ledger_not_migrated", "ledger_forbidden", "roles_not_set_up", "queue_mismatch", "internal"),
}
_REASONS = {
    *("alters_live_relation", "answer", "dependent_objects", "hook_failed", "names_of_relations", "not_compiled"),
    *("not_replayable", "relation_state", "selection", "unexpected_answer"),
}
_STEPS = {
    events.RUN_CLAIMED.name: "claim",
    events.RUN_BUILT.name: "build",
    events.RUN_ARCHIVED.name: "archive",
    events.RUN_SUCCEEDED.name: "record",
}
_OUTCOMES = {
    events.RUN_SUCCEEDED.name: "succeeded",
    events.RUN_FAILED.name: "failed",
    events.RUN_CANCELLED.name: "cancelled",
    events.RUN_SKIPPED.name: "skipped",
}
# From a replay of some milliseconds to the longest run that the default time limit allows.
_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000)


class EventMetrics:
    """What is counted of this process's events, in a registry of its caller's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = Counter("kiket_events", "Events written to the log.", ["event"], registry=registry)
        self._runs = Counter(
            "kiket_runs",
            "Runs that ended, by outcome and, if it was no success, kind of error.",
            ["outcome", "error_kind"],
            registry=registry,
        )
        self._run_seconds = Histogram(
            "kiket_run_duration_seconds",
            "Seconds from the claim of a run's last attempt to its end.",
            ["outcome"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._step_seconds = Histogram(
            "kiket_step_duration_seconds",
            "Seconds that one step of a run took.",
            ["step"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._retries = Counter(
            "kiket_retries", "Attempts that met a fault that may pass.", ["error_kind"], registry=registry
        )
        self._faults = Counter(
            "kiket_faults",
            "Messages and ticks that came to nothing for a reason that is no run's own.",
            ["event", "error_kind"],
            registry=registry,
        )
        self._artifact_bytes = Counter("kiket_artifact_bytes", "Bytes of artifacts stored.", registry=registry)
        self._artifact_files = Counter("kiket_artifact_files", "Files of artifacts stored.", registry=registry)
        self._deoptimised = Counter(
            "kiket_engine_deoptimised",
            "Runs for which dbt itself ran in place of a replay.",
            ["reason"],
            registry=registry,
        )
        self._begin_at_zero()

    def note(self, event: Event, fields: Mapping[str, Any]) -> None:
        """Count one event; a listener of `events.listen`."""
        self._events.labels(event.name).inc()
        kind = fields.get("error_kind")
        if (step := _STEPS.get(event.name)) and "step_seconds" in fields:
            self._step_seconds.labels(step).observe(fields["step_seconds"])
        if outcome := _OUTCOMES.get(event.name):
            self._runs.labels(outcome, _one_of(_KINDS, kind) if kind else "").inc()
            if "duration_seconds" in fields:
                self._run_seconds.labels(outcome).observe(fields["duration_seconds"])
        if event is events.RUN_RETRIED:
            self._retries.labels(_one_of(_RETRYABLE_KINDS, kind)).inc()
        elif event in _FAULTS:
            self._faults.labels(event.name, _one_of(_FAULT_KINDS, kind)).inc()
        elif event is events.RUN_ARCHIVED:
            self._artifact_bytes.inc(fields.get("bytes", 0))
            self._artifact_files.inc(fields.get("files", 0))
        elif event is events.ENGINE_DEOPTIMISED:
            self._deoptimised.labels(_one_of(_REASONS, fields.get("reason"))).inc()

    def _begin_at_zero(self) -> None:
        _touch(self._events, ([name] for name in CATALOGUE))
        _touch(self._runs, ([outcome, ""] for outcome in ("succeeded", "cancelled")))
        _touch(self._runs, (["failed", kind] for kind in (*_KINDS, OTHER)))
        _touch(self._runs, (["skipped", kind] for kind in _KINDS if kind.startswith("organization_")))
        _touch(self._run_seconds, ([outcome] for outcome in ("succeeded", "failed", "cancelled")))
        _touch(self._step_seconds, ([step] for step in _STEPS.values()))
        _touch(self._retries, ([kind] for kind in (*_RETRYABLE_KINDS, OTHER)))
        _touch(self._faults, ([event.name, kind] for event in _FAULTS for kind in (*_FAULT_KINDS, OTHER)))
        _touch(self._deoptimised, ([reason] for reason in (*_REASONS, OTHER)))


def _one_of(known: set[str], value: Any) -> str:
    return str(value) if value in known else OTHER


def _touch(metric: Counter | Histogram, labels: Iterable[list[str]]) -> None:
    for values in labels:
        metric.labels(*values)
