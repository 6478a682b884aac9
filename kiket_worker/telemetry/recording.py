"""What one attempt at a run tells of itself: a trace with a span for each step and node, and log records in its file.

The trace is the caller's, where the run's message named one, and else has the run's id for its own: so every attempt
at a run is found by it.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer

from kiket_worker import events
from kiket_worker.errors import KiketError
from kiket_worker.events import Event
from kiket_worker.telemetry import records
from kiket_worker.telemetry.records import Record, Value
from kiket_worker.telemetry.rotation import Cut, RotatedLog

if TYPE_CHECKING:
    from kiket_worker.telemetry.exporting import Export

FILE_NAME = "otel-logs.jsonl"

# How many records share a line of the file, and with it what they have in common.
_BATCH = 256

# The ends of dbt's names for events that begin and end a node (https://docs.getdbt.com/reference/events-logging).
_BEGINS, _ENDS = ("StartLine",), ("Result", "EndLine")

# dbt's words for how a node ended.
_FAILED = ("error", "fail", "runtime error", "partial success")

_ENDS_OF_ATTEMPTS = (
    events.RUN_SUCCEEDED,
    events.RUN_FAILED,
    events.RUN_RETRIED,
    events.RUN_HANDED_BACK,
    events.RUN_CANCELLED,
    events.LEASE_LOST,
)

_trace_of_run: ContextVar[int | None] = ContextVar("trace_of_run", default=None)


class RunIds(RandomIdGenerator):
    """Ids of spans at random; a trace that begins with an attempt gets the run's."""

    def generate_trace_id(self) -> int:
        """See `IdGenerator`."""
        return _trace_of_run.get() or super().generate_trace_id()


@dataclass(frozen=True)
class About:
    """Which attempt it is. `traceparent` is its caller's, in the form of version 00; the bundle may be known later."""

    organization: str
    run_id: UUID
    attempt: int
    bundle_digest: str | None
    traceparent: str | None = None

    @property
    def attributes(self) -> dict[str, Value]:
        """What every span and record of the attempt says."""
        known = {"kiket.bundle_digest": self.bundle_digest} if self.bundle_digest else {}
        return {
            "kiket.organization": self.organization,
            "kiket.run_id": str(self.run_id),
            "kiket.attempt": self.attempt,
            **known,
        }


class Recording:
    """The telemetry of one attempt, from the thread that works at it and from those that help."""

    def __init__(
        self,
        about: About,
        tracer: Tracer,
        export: "Export | None",
        resource: Mapping[str, Value],
        folder: Path,
        *,
        began: int,
        most_log_bytes: int,
    ) -> None:
        """`began` is when the attempt did, as nanoseconds of Unix time; `export` is None where nobody wants records.

        The file is in `folder`; of a longer one than `most_log_bytes`, the middle is left out.
        """
        self._about = about
        self._attributes = about.attributes
        self._tracer = tracer
        self._export = export
        self._resource = {**resource, **self._attributes}
        self._file = RotatedLog(
            folder / FILE_NAME, most_log_bytes, lambda cut: records.line(self._resource, [_left_out(cut)])
        )
        self._lock = threading.Lock()
        self._thread = threading.get_ident()
        self._waiting: list[Record] = []
        self._nodes: dict[str, Span] = {}
        token = _trace_of_run.set(about.run_id.int)
        try:
            self._root = self._start("refresh", _caller(about.traceparent), began, kind=SpanKind.CONSUMER)
        finally:
            _trace_of_run.reset(token)
        self._current = self._root

    @property
    def trace_id(self) -> str | None:
        """The trace's id in hexadecimal, or None where tracing is off."""
        context = self._root.get_span_context()
        return f"{context.trace_id:032x}" if context.is_valid else None

    def of_bundle(self, digest: str) -> None:
        """Say from now on, and of the attempt as a whole, which bundle it builds, if that was not known at first."""
        if self._about.bundle_digest == digest:
            return
        told = self._about = replace(self._about, bundle_digest=digest)
        with self._lock:
            self._attributes = told.attributes
            self._resource = {**self._resource, **self._attributes}
        for span in (self._root, self._current):
            span.set_attribute("kiket.bundle_digest", digest)

    def past(self, name: str, began: int) -> None:
        """A span of what is over by now."""
        self._start(name, self._root, began).end()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A span of what happens until the block ends, and of what is told of meanwhile."""
        self._current = self._start(name, self._root)
        try:
            yield
        except BaseException as fault:
            _mark(self._current, fault.kind if isinstance(fault, KiketError) else type(fault).__name__)
            raise
        finally:
            # Of a dbt that was stopped, nodes have begun that will not end.
            for span in self._nodes.values():
                span.end()
            self._nodes.clear()
            self._current.end()
            self._current = self._root

    def is_about(self, fields: Mapping[str, Any]) -> bool:
        """Whether an event with these fields, written in this thread, belongs to the attempt."""
        run_id = fields.get("run_id")
        # What does not name a run belongs to the attempt in whose thread it happens.
        return run_id == str(self._about.run_id) or (run_id is None and threading.get_ident() == self._thread)

    def hear(self, event: Event, fields: Mapping[str, Any]) -> None:
        """Keep an event of the worker's, if it belongs to the attempt; a listener of `events`."""
        if self.is_about(fields):
            span = self._current.get_span_context()
            self._keep(records.of_event(event, fields, now=time.time_ns(), span=span))
            if event in _ENDS_OF_ATTEMPTS:
                self._root.set_attribute("kiket.outcome", event.name.partition(".")[2])
                if kind := fields.get("error_kind"):
                    _mark(self._root, str(kind))

    def dbt_event(self, event: dict[str, Any]) -> None:
        """Keep an event of dbt's, in the span of the node that it is about; nodes' spans begin and end with theirs."""
        now, node = time.time_ns(), event["data"].get("node_info")
        node = node if isinstance(node, dict) else {}
        node_id, name = str(node.get("unique_id") or ""), str(event["info"].get("name"))
        if node_id and name.endswith(_BEGINS) and node_id not in self._nodes:
            began = records.nanoseconds(node.get("node_started_at")) or now
            title = f"{node.get('resource_type', 'node')} {node.get('node_name') or node_id.rpartition('.')[2]}"
            self._nodes[node_id] = self._start(title, self._current, began, {"kiket.node_id": node_id})
        span = self._nodes.get(node_id, self._current)
        self._keep(records.of_dbt_event(event, now=now, span=span.get_span_context()))
        if node_id in self._nodes and name.endswith(_ENDS):
            if (status := str(node.get("node_status"))) in _FAILED:
                _mark(span, status)
            del self._nodes[node_id]
            span.end(records.nanoseconds(node.get("node_finished_at")) or now)

    @property
    def path(self) -> Path:
        """The file: everything that was told before it was sealed."""
        return self._file.path

    def seal(self) -> dict[str, Cut]:
        """Write what was told until now to the file, and end it; gives what had to be left out, by the file's name."""
        with self._lock:
            self._write()
            cut = self._file.close()
        return {self.path.name: cut} if cut else {}

    def close(self) -> None:
        """End the trace, and the file if it has not ended."""
        self._root.end()
        self.seal()

    def _start(
        self,
        name: str,
        parent: Span | None,
        began: int | None = None,
        attributes: Mapping[str, Value] | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Span:
        context = trace.set_span_in_context(parent) if parent is not None else Context()
        return self._tracer.start_span(
            name, context, kind=kind, attributes={**self._attributes, **(attributes or {})}, start_time=began
        )

    def _keep(self, record: Record) -> None:
        if self._export is not None:
            self._export.emit(record, self._attributes)
        with self._lock:
            if self._file.is_open:
                self._waiting.append(record)
                if len(self._waiting) >= _BATCH:
                    self._write()

    def _write(self) -> None:
        if self._waiting and self._file.is_open:
            self._file.write(records.line(self._resource, self._waiting))
        self._waiting.clear()


def _left_out(cut: Cut) -> Record:
    now = time.time_ns()
    attributes: dict[str, Value] = {"kiket.lines": cut.lines, "kiket.bytes": cut.bytes}
    return Record(
        records.WORKER_SCOPE, now, now, "warning", "log.cut", str(cut), attributes, trace.INVALID_SPAN_CONTEXT
    )


def _caller(traceparent: str | None) -> Span | None:
    if traceparent is None:
        return None
    _, trace_id, span_id, flags = traceparent.split("-")
    context = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    return NonRecordingSpan(context)


def _mark(span: Span, kind: str) -> None:
    """Say that it failed, by the kind of the fault; its words are in the log's records."""
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, kind))
