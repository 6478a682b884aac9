"""Logs as the design has them: one JSON line per event on standard output."""

import logging
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TextIO

import structlog

from kiket_worker.events import LIBRARY_WARNED


def set_up_logs(stream: TextIO | None = None) -> None:
    """Send events to `stream` (standard output unless told), one JSON object a line, and libraries' warnings too."""
    target = stream or sys.stdout
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(default=str)],
        logger_factory=structlog.WriteLoggerFactory(file=target),
        cache_logger_on_first_use=False,
    )
    # Libraries log text, not events: their warnings are passed on under one name, so that each line stays JSON.
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _as_library_line],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def traced(trace_id: str | None) -> AbstractContextManager[None]:
    """Name a trace in each line that this thread writes until the block ends."""
    return structlog.contextvars.bound_contextvars(trace_id=trace_id) if trace_id else nullcontext()


def silence_logs() -> None:
    """Write no events: for commands whose standard output is their answer."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    logging.basicConfig(level=logging.CRITICAL, force=True)


def _as_library_line(
    _logger: logging.Logger, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    record: logging.LogRecord = event["_record"]
    message = event["event"]
    if record.exc_info and record.exc_info[0]:
        # The kind of exception and no more: its words and its traceback hold values, which may be secrets or rows.
        message = f"{message} ({record.exc_info[0].__name__})"
    for key in ("exc_info", "stack_info"):
        event.pop(key, None)
    event.update(event=LIBRARY_WARNED.name, library=record.name, message=message)
    return event
