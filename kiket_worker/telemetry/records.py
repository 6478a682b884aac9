"""Log records of OpenTelemetry, made of the worker's events and of dbt's, and their form in a file.

Data model: https://opentelemetry.io/docs/specs/otel/logs/data-model/. File: one JSON object a line, each a `LogsData`
(https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/), in the JSON mapping of OTLP, where ids are
hexadecimal and 64-bit integers are texts (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from opentelemetry.trace import SpanContext

from kiket_worker import __version__
from kiket_worker.events import Event

WORKER_SCOPE = "kiket-worker"
DBT_SCOPE = "dbt"

_text = json.encoder.encode_basestring_ascii
_VERSION = f',"version":{_text(__version__)}'

# Data model, "Severity Fields"; by the names of levels, dbt's as well.
_SEVERITY = {"debug": 5, "test": 5, "info": 9, "warn": 13, "warning": 13, "error": 17}

Value = str | int | float | bool


@dataclass(frozen=True)
class Record:
    """One log record. Times are nanoseconds of Unix time; `scope` is whose event it was."""

    scope: str
    time: int
    observed: int
    level: str
    name: str
    body: str
    attributes: Mapping[str, Value]
    span: SpanContext

    @property
    def severity(self) -> int:
        """OpenTelemetry's number for the level."""
        return _SEVERITY.get(self.level, 9)


def of_event(event: Event, fields: Mapping[str, Any], *, now: int, span: SpanContext) -> Record:
    """The record of one of the worker's own events; its fields are attributes named `kiket.` and as in the log."""
    return Record(
        WORKER_SCOPE,
        now,
        now,
        event.level_name,
        event.name,
        str(fields.get("error") or event.meaning),
        {f"kiket.{name}": _value(value) for name, value in fields.items()},
        span,
    )


def of_dbt_event(event: Mapping[str, Any], *, now: int, span: SpanContext) -> Record:
    """The record of an event of dbt's structured log. Its data stays in dbt's own log, which has it all."""
    info, node = event["info"], event["data"].get("node_info")
    attributes = {
        "kiket.node_id": node.get("unique_id") if isinstance(node, dict) else None,
        "dbt.event.code": info.get("code"),
        "dbt.thread": info.get("thread"),
        "dbt.invocation_id": info.get("invocation_id"),
    }
    return Record(
        DBT_SCOPE,
        nanoseconds(info.get("ts")) or now,
        now,
        str(info.get("level") or "info"),
        str(info.get("name") or ""),
        str(info.get("msg") or ""),
        {name: str(value) for name, value in attributes.items() if value},
        span,
    )


def nanoseconds(text: object) -> int | None:
    """An ISO 8601 time, in UTC unless it says otherwise, as nanoseconds of Unix time; None where it is none."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1_000_000) * 1000


def line(resource: Mapping[str, Value], records: Iterable[Record]) -> bytes:
    """Records as one line of a file."""
    scopes: dict[str, list[str]] = {}
    for record in records:
        scopes.setdefault(record.scope, []).append(_document(record))
    groups = ",".join(
        f'{{"scope":{{"name":{_text(name)}{_VERSION if name == WORKER_SCOPE else ""}}},'
        f'"logRecords":[{",".join(documents)}]}}'
        for name, documents in scopes.items()
    )
    about = _attributes(resource)
    return f'{{"resourceLogs":[{{"resource":{{"attributes":{about}}},"scopeLogs":[{groups}]}}]}}\n'.encode()


# Written by hand, as each refresh writes some fifty of them: `json` takes more than twice as long.
def _document(record: Record) -> str:
    span = record.span
    ids = (
        f',"traceId":"{span.trace_id:032x}","spanId":"{span.span_id:016x}","flags":{int(span.trace_flags)}'
        if span.is_valid
        else ""
    )
    return (
        f'{{"timeUnixNano":"{record.time}","observedTimeUnixNano":"{record.observed}",'
        f'"severityNumber":{record.severity},"severityText":{_text(record.level.upper())},'
        f'"eventName":{_text(record.name)},"body":{{"stringValue":{_text(record.body)}}},'
        f'"attributes":{_attributes(record.attributes)}{ids}}}'
    )


def _attributes(attributes: Mapping[str, Value]) -> str:
    pairs = (f'{{"key":{_text(name)},"value":{_typed(value)}}}' for name, value in attributes.items())
    return f"[{','.join(pairs)}]"


def _typed(value: Value) -> str:
    if isinstance(value, str):
        return f'{{"stringValue":{_text(value)}}}'
    if isinstance(value, bool):
        return f'{{"boolValue":{json.dumps(value)}}}'
    if isinstance(value, int):
        return f'{{"intValue":"{value}"}}'
    return f'{{"doubleValue":{json.dumps(value)}}}'


def _value(value: Any) -> Value:
    return value if isinstance(value, str | int | float) else json.dumps(value, default=str)
