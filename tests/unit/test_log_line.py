"""The published JSON Schema of a log line is the catalogue's own."""

import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import kiket_worker
from kiket_worker import events
from kiket_worker.events import CATALOGUE, FIELDS, Event
from kiket_worker.telemetry.log_line import schema_document
from kiket_worker.telemetry.logs import set_up_logs, silence_logs

COMMITTED = Path(kiket_worker.__file__).parent.parent / "deploy" / "contracts" / "log-line.schema.json"
EXAMPLES: dict[str, Any] = {
    "string": "text",
    "integer": 3,
    "number": 0.25,
    "boolean": True,
    "array": ["one", "two"],
}

schema = jsonschema.Draft202012Validator(schema_document())


def line_of(event: Event, **fields: Any) -> dict[str, Any]:
    """The line as it is written, with an example in each field."""
    log = io.StringIO()
    set_up_logs(log)
    event.log(**{name: EXAMPLES[FIELDS[name].json_type] for name in event.fields} | fields)
    silence_logs()
    line: dict[str, Any] = json.loads(log.getvalue())
    return line


def test_the_committed_schema_is_what_the_code_gives() -> None:
    assert COMMITTED.read_text() == json.dumps(schema_document(), indent=2) + "\n", "run `make contracts`"
    jsonschema.Draft202012Validator.check_schema(schema_document())


@pytest.mark.parametrize("event", CATALOGUE.values(), ids=CATALOGUE)
def test_a_line_of_each_event_follows_the_schema_and_no_other_does(event: Event) -> None:
    line = line_of(event)
    schema.validate(line)
    schema.validate(line | {"trace_id": "0af7651916cd43dd8448eb211c80319c"})
    wrong: list[dict[str, Any]] = [
        line | {"colour": "red"},
        line | {"event": "run.exploded"},
        line | {"timestamp": "yesterday"},
        line | {"trace_id": "short"},
        *({name: value for name, value in line.items() if name != left_out} for left_out in ("level", "event")),
        *(line | {name: None} for name in event.fields),
        *(line | {name: {"a": 1}} for name in event.fields),
    ]
    if event is not events.LIBRARY_WARNED:
        wrong.append(line | {"level": "critical"})
    wrong += [line | {name: "x"} for name in sorted(FIELDS.keys() - event.fields)[:1]]
    assert [document for document in wrong if schema.is_valid(document)] == []
