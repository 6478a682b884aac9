"""Traces and log records of a process: what the settings say that is to be told, and to whom."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from opentelemetry.sdk.resources import (
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import INVALID_SPAN_CONTEXT

from kiket_worker import __version__, events
from kiket_worker.events import Event
from kiket_worker.settings import Settings
from kiket_worker.telemetry import records
from kiket_worker.telemetry.logs import traced
from kiket_worker.telemetry.recording import About, Recording, RunIds
from kiket_worker.telemetry.records import Value
from kiket_worker.telemetry.rotation import MOST_BYTES

if TYPE_CHECKING:
    from kiket_worker.telemetry.exporting import Export

# How long a worker that ends waits for a collector to take the last records.
_LAST_SECONDS = 5.0


class Telemetry:
    """Records attempts; sends what they tell to a collector where the settings name one."""

    def __init__(
        self,
        worker: str,
        *,
        most_log_bytes: int = MOST_BYTES,
        log_queue_size: int | None = None,
        span_queue_size: int | None = None,
    ) -> None:
        """`worker` names the process. Without a queue's size, that signal does not leave the process."""
        self.most_log_bytes = most_log_bytes
        service = {SERVICE_NAME: "kiket-worker", SERVICE_VERSION: __version__, SERVICE_INSTANCE_ID: worker}
        # The environment has the last word: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES.
        resource = Resource.create().merge(Resource(service)).merge(OTELResourceDetector().detect())
        self._resource: dict[str, Value] = {
            name: value for name, value in resource.attributes.items() if isinstance(value, str | int | float)
        }
        self._tracers = TracerProvider(
            # Spans that nobody gets are ids for the log's records and nothing more. None: as OTEL_TRACES_SAMPLER says.
            None if span_queue_size else ALWAYS_OFF,
            resource,
            id_generator=RunIds(),
            shutdown_on_exit=False,
        )
        self._tracer = self._tracers.get_tracer("kiket-worker", __version__)
        self._recordings: list[Recording] = []
        self._export: Export | None = None
        self._closing = ExitStack()
        if log_queue_size or span_queue_size:
            self._begin_exports(resource, log_queue_size, span_queue_size)

    def _begin_exports(self, resource: Resource, log_queue_size: int | None, span_queue_size: int | None) -> None:
        # Protobuf and an HTTP client, which only those need who have a collector.
        from kiket_worker.telemetry import exporting  # noqa: PLC0415

        ends, tallies = [self._tracers.shutdown], []
        if log_queue_size:
            tallies.append(tally := exporting.Tally("logs", log_queue_size))
            self._export = exporting.Export(resource, tally, log_queue_size)
            ends.append(self._export.shutdown)
        if span_queue_size:
            tallies.append(tally := exporting.Tally("traces", span_queue_size))
            self._tracers.add_span_processor(exporting.span_processor(tally, span_queue_size))
        self._closing.callback(exporting.end_within, _LAST_SECONDS, ends, tallies)
        if self._export:
            self._closing.callback(events.listen(self._hear))

    @classmethod
    def from_settings(cls, settings: Settings, worker: str) -> "Telemetry":
        """As the environment says."""
        return cls(
            worker,
            most_log_bytes=settings.run_log_megabytes * 1024 * 1024,
            log_queue_size=settings.otel_log_queue_size if settings.exports_logs else None,
            span_queue_size=settings.otel_span_queue_size if settings.exports_traces else None,
        )

    @contextmanager
    def recording(
        self,
        folder: Path,
        *,
        organization: str,
        run_id: UUID,
        attempt: int,
        bundle_digest: str | None,
        traceparent: str | None,
        began: int,
    ) -> Iterator[Recording]:
        """Record an attempt until the block ends; its file lies in `folder`.

        `bundle_digest` is None where it is not known yet. `traceparent` is the caller's, and `began` when the attempt
        did, in nanoseconds of Unix time.
        """
        about = About(organization, run_id, attempt, bundle_digest, traceparent)
        made = Recording(
            about, self._tracer, self._export, self._resource, folder, began=began, most_log_bytes=self.most_log_bytes
        )
        end_listening = events.listen(made.hear)
        self._recordings.append(made)
        try:
            with traced(made.trace_id):
                yield made
        finally:
            self._recordings.remove(made)
            end_listening()
            made.close()

    def close(self) -> None:
        """Send what waits, within a few seconds."""
        self._closing.close()

    def _hear(self, event: Event, fields: Mapping[str, Any]) -> None:
        """Export what belongs to no attempt: those have their own way to the collector."""
        if event is events.TELEMETRY_DROPPED:
            return  # A collector that takes nothing would get ever more of these.
        if self._export and not any(made.is_about(fields) for made in tuple(self._recordings)):
            record = records.of_event(event, fields, now=time.time_ns(), span=INVALID_SPAN_CONTEXT)
            self._export.emit(record, {})
