"""A log line as JSON Schema: the contract of `events.py` for programs that read the log."""

from typing import Any

from kiket_worker.events import CATALOGUE, FIELDS, LIBRARY_WARNED, Event

# What lines of a run have beside their event's fields, where there is a trace that they belong to.
_TRACE = {
    "trace_id": {"type": "string", "pattern": "^[0-9a-f]{32}$", "description": "The trace of the run (W3C)."},
}


def schema_document() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one line."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "kiket-worker log line",
        "description": "One event of kiket-worker, as it is written to standard output. A later release may add events "
        "and fields; it takes none away and gives none another meaning.",
        "type": "object",
        "required": ["timestamp", "level", "event"],
        "properties": {
            "timestamp": {
                "type": "string",
                "format": "date-time",
                "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]+Z$",
                "description": "When it was written (RFC 3339, UTC).",
            },
            "level": {"enum": ["info", "warning", "error", "critical"], "description": "How loud it is."},
            "event": {"enum": list(CATALOGUE), "description": "What happened."},
        }
        | {name: _described(name) for name in FIELDS}
        | _TRACE,
        "oneOf": [_one(event) for event in CATALOGUE.values()],
    }


def _described(name: str) -> dict[str, Any]:
    field = FIELDS[name]
    items = {"items": {"type": "string"}} if field.json_type == "array" else {}
    return {"type": field.json_type} | items | {"description": field.meaning}


def _one(event: Event) -> dict[str, Any]:
    """One event: its level, and no field but its own."""
    # A library's line has the level that the library chose.
    level = {} if event is LIBRARY_WARNED else {"const": event.level_name}
    own = {"timestamp": {}, "level": level, "event": {"const": event.name}}
    return {
        "title": event.name,
        "description": f"{event.meaning} {event.remedy}".strip(),
        "properties": own | {name: {} for name in (*sorted(event.fields), *_TRACE)},
        "additionalProperties": False,
    }
