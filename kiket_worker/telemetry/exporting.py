"""Records and spans on their way to a collector by OTLP over HTTP, which no run ever waits for.

Both go through a queue of bounded length that a thread of the SDK's empties. What comes while it is full, and what the
collector does not take in the end, is dropped and counted.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import NonRecordingSpan, set_span_in_context

from kiket_worker import __version__, events
from kiket_worker.telemetry.records import WORKER_SCOPE, Record, Value

T = TypeVar("T")

# How often it is told that something was dropped.
_TELL_SECONDS = 60.0


class Tally:
    """How much of one signal waits or is being sent, and how much was dropped. `limit` is the length of the queue."""

    def __init__(self, signal: str, limit: int) -> None:
        self._signal = signal
        self._limit = limit
        self._lock = threading.Lock()
        self._waiting = self._in_hand = self._dropped = self._told = 0
        self._tell_at = 0.0
        self._ended = False

    def takes(self) -> bool:
        """Whether the queue has room for one more, which it then has taken."""
        with self._lock:
            if self._waiting < self._limit:
                self._waiting += 1
                return True
        self._drop(1)
        return False

    def sent(self, number: int, send: Callable[[], T], success: T) -> T:
        """Send so many that have left the queue; they are lost unless that gives `success`."""
        with self._lock:
            self._waiting -= number
            self._in_hand += number
        result = None
        try:
            result = send()
            return result
        finally:
            with self._lock:
                self._in_hand -= number
            if result is not success:
                self._drop(number)

    def lose_the_rest(self) -> None:
        """Nobody empties the queue any more, and what is being sent is not waited for."""
        with self._lock:
            self._dropped += self._waiting + self._in_hand
            self._ended = True
        self._tell()

    def _drop(self, number: int) -> None:
        with self._lock:
            if self._ended:
                return
            self._dropped += number
            due = time.monotonic() >= self._tell_at
        if due:
            self._tell()

    def _tell(self) -> None:
        with self._lock:
            number, self._told = self._dropped - self._told, self._dropped
            self._tell_at = time.monotonic() + _TELL_SECONDS
        if number:
            events.TELEMETRY_DROPPED.log(signal=self._signal, records=number)


class Export:
    """Log records to a collector."""

    def __init__(self, resource: Resource, tally: Tally, queue_size: int) -> None:
        self._provider = LoggerProvider(resource, shutdown_on_exit=False)
        exporter = _CountedLogs(OTLPLogExporter(), tally)
        self._provider.add_log_record_processor(
            _BoundedLogs(BatchLogRecordProcessor(exporter, max_queue_size=queue_size), tally)
        )

    def emit(self, record: Record, attributes: Mapping[str, Value]) -> None:
        """Hand a record over; returns at once, whatever the collector does."""
        version = __version__ if record.scope == WORKER_SCOPE else None
        self._provider.get_logger(record.scope, version).emit(
            timestamp=record.time,
            observed_timestamp=record.observed,
            context=set_span_in_context(NonRecordingSpan(record.span)),
            severity_number=SeverityNumber(record.severity),
            severity_text=record.level.upper(),
            body=record.body,
            attributes={**attributes, **record.attributes},
            event_name=record.name,
        )

    def shutdown(self) -> None:
        """Send what waits, for as long as the SDK is patient."""
        self._provider.shutdown()


def span_processor(tally: Tally, queue_size: int) -> SpanProcessor:
    """What brings spans to a collector."""
    exporter = _CountedSpans(OTLPSpanExporter(), tally)
    return _BoundedSpans(BatchSpanProcessor(exporter, max_queue_size=queue_size), tally)


def end_within(seconds: float, shutdowns: Sequence[Callable[[], None]], tallies: Sequence[Tally]) -> None:
    """Let each send what waits, all within that time; what was not sent by then is dropped."""
    threads = [threading.Thread(target=shutdown, daemon=True) for shutdown in shutdowns]
    for thread in threads:
        thread.start()
    until = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    for tally in tallies:
        tally.lose_the_rest()


class _CountedLogs(LogRecordExporter):
    def __init__(self, inner: LogRecordExporter, tally: Tally) -> None:
        self._inner = inner
        self._tally = tally

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        return self._tally.sent(len(batch), lambda: self._inner.export(batch), LogRecordExportResult.SUCCESS)

    def force_flush(self, timeout_millis: int = 10_000) -> bool:
        return self._inner.force_flush(timeout_millis)

    def shutdown(self) -> None:
        self._inner.shutdown()  # type: ignore[no-untyped-call]  # the SDK's abstract method has no types


class _BoundedLogs(LogRecordProcessor):
    def __init__(self, inner: LogRecordProcessor, tally: Tally) -> None:
        self._inner = inner
        self._tally = tally

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        if self._tally.takes():
            self._inner.on_emit(log_record)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)

    def shutdown(self) -> None:
        self._inner.shutdown()


class _CountedSpans(SpanExporter):
    def __init__(self, inner: SpanExporter, tally: Tally) -> None:
        self._inner = inner
        self._tally = tally

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._tally.sent(len(spans), lambda: self._inner.export(spans), SpanExportResult.SUCCESS)

    def shutdown(self) -> None:
        self._inner.shutdown()


class _BoundedSpans(SpanProcessor):
    def __init__(self, inner: SpanProcessor, tally: Tally) -> None:
        self._inner = inner
        self._tally = tally

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled and self._tally.takes():
            self._inner.on_end(span)

    def shutdown(self) -> None:
        self._inner.shutdown()
