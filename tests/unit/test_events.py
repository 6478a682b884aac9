"""The log as a contract: the catalogue, its lines, and that the code writes nothing beside it."""

import ast
import io
import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kiket_worker import events
from kiket_worker.events import CATALOGUE, Event
from kiket_worker.telemetry.logs import set_up_logs, silence_logs

SOURCE = Path(events.__file__).parent
CONSTANTS = {name: value for name, value in vars(events).items() if isinstance(value, Event)}

# The fields that the design names, and what single events add to them.
FIELDS = {"organization", "run_id", "attempt", "worker", "model_id", "error_kind", "duration_seconds", "trace_id"} | {
    *("error", "reason", "artifacts", "files", "bytes", "models", "usage_events", "rows_affected", "sessions_ended"),
    *("queued", "published", "interval_seconds", "concurrency", "library", "message"),
    *("delay_seconds", "drift", "overrun", "quota_bytes", "role"),
    *("step_seconds", "signal", "records", "address"),
    *("releases", "bundle_digest", "replayable", "reasons", "answers"),
    *("definitions_version", "relation"),
    *("client", "changes", "requested_by"),
}


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    set_up_logs(stream)
    yield stream
    silence_logs()


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


@pytest.mark.parametrize("event", CONSTANTS.values(), ids=CONSTANTS)
def test_an_event_is_named_by_subject_and_what_happened(event: Event) -> None:
    assert re.fullmatch(r"[a-z]+(\.[a-z]+(_[a-z]+)*)+", event.name)
    assert event.name.replace(".", "_").upper() in CONSTANTS
    # Past tense: a regular verb, or one of those that are not.
    assert re.search(r"(ed|lost|built|taken_over|begun|run|handed_back|rolled_back)$", event.name)


@pytest.mark.parametrize("event", CONSTANTS.values(), ids=CONSTANTS)
def test_an_event_says_what_it_means_and_what_to_do(event: Event) -> None:
    assert event.meaning.endswith(".")
    assert event.level in {logging.INFO, logging.WARNING, logging.ERROR}
    assert event.fields <= FIELDS
    if event.level >= logging.ERROR:
        assert event.remedy.endswith(".")


def test_the_table_of_fields_has_those_of_the_events_and_no_other() -> None:
    assert set(events.FIELDS) == set().union(*(event.fields for event in CONSTANTS.values()))
    assert {name for name, field in events.FIELDS.items() if not field.meaning.endswith(".")} == set()


def test_the_catalogue_holds_each_event_once() -> None:
    assert len(CATALOGUE) == len(CONSTANTS)
    assert set(CATALOGUE.values()) == set(CONSTANTS.values())


def test_a_field_that_the_event_does_not_have_is_refused(log: io.StringIO) -> None:
    with pytest.raises(TypeError, match=r"worker\.stopped has no field colour, weight"):
        events.WORKER_STOPPED.log(worker="w", weight=1, colour="red")
    assert log.getvalue() == ""


def test_a_line_is_json_with_time_level_event_and_fields(log: io.StringIO) -> None:
    events.RUN_FAILED.log(organization="acmé\n", attempt=2, error_kind="model_failed", error=None)
    (line,) = lines(log)
    timestamp = line.pop("timestamp")
    assert line == {
        "level": "error",
        "event": "run.failed",
        "organization": "acmé\n",
        "attempt": 2,
        "error_kind": "model_failed",
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", timestamp)
    assert abs(datetime.now(UTC) - datetime.fromisoformat(timestamp)) < timedelta(minutes=1)


@pytest.mark.parametrize("event", CONSTANTS.values(), ids=CONSTANTS)
def test_an_events_line_has_the_events_level(log: io.StringIO, event: Event) -> None:
    event.log(**dict.fromkeys(event.fields, "x"))
    (line,) = lines(log)
    assert line["level"] == logging.getLevelName(event.level).lower()
    assert line.keys() == event.fields | {"timestamp", "level", "event"}


def test_a_listener_hears_each_event_until_it_is_ended(log: io.StringIO) -> None:
    heard: list[tuple[str, dict[str, Any]]] = []
    end = events.listen(lambda event, fields: heard.append((event.name, dict(fields))))
    events.RUN_QUEUED.log(organization="acme", reason=None)
    end()
    events.RUN_QUEUED.log(organization="umbrella")
    assert heard == [("run.queued", {"organization": "acme"})]


def test_values_that_json_does_not_know_are_written_as_text(log: io.StringIO) -> None:
    events.RUN_QUEUED.log(organization="acme", reason=Path("/x"))
    assert lines(log)[0]["reason"] == "/x"


def test_a_librarys_warning_is_one_json_line_without_traceback(log: io.StringIO) -> None:
    try:
        int("password=hunter2")
    except ValueError:
        logging.getLogger("some.library").warning("lost %s\nconnection", "the", exc_info=True, stack_info=True)
    (line,) = lines(log)
    del line["timestamp"]
    assert line == {
        "level": "warning",
        "event": events.LIBRARY_WARNED.name,
        "library": "some.library",
        "message": "lost the\nconnection (ValueError)",
    }
    assert "hunter2" not in log.getvalue()
    assert "Traceback" not in log.getvalue()


def test_what_a_library_tells_below_a_warning_is_not_written(log: io.StringIO) -> None:
    logging.getLogger("some.library").info("connected")
    assert log.getvalue() == ""


def test_silence_is_silent(log: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    silence_logs()
    events.RUN_FAILED.log(organization="acme")
    logging.getLogger("some.library").error("lost")
    assert log.getvalue() == ""
    assert capsys.readouterr() == ("", "")


def test_setting_up_twice_writes_each_line_once() -> None:
    first, second = io.StringIO(), io.StringIO()
    set_up_logs(first)
    set_up_logs(second)
    events.WORKER_STOPPED.log(worker="w")
    logging.getLogger("some.library").warning("lost")
    assert first.getvalue() == ""
    assert [line["event"] for line in lines(second)] == ["worker.stopped", "library.warned"]
    silence_logs()


def _modules() -> dict[str, ast.Module]:
    paths = [path for path in SOURCE.rglob("*.py") if path != SOURCE / "events.py"]
    return {str(path.relative_to(SOURCE)): ast.parse(path.read_text()) for path in paths}


def test_every_event_is_written_somewhere() -> None:
    used = {
        name
        for module in _modules().values()
        for node in ast.walk(module)
        for name in (
            [node.attr] if isinstance(node, ast.Attribute) else [node.id] if isinstance(node, ast.Name) else []
        )
    }
    assert set(CONSTANTS) - used == set()


def test_nothing_is_logged_beside_the_catalogue() -> None:
    """No module but those two makes a logger; what is called `log` is called on an event, or given one."""
    for path, module in _modules().items():
        if path == "telemetry/logs.py":
            continue
        imported = {
            alias.name.partition(".")[0]
            for node in ast.walk(module)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in ([ast.alias(node.module or "")] if isinstance(node, ast.ImportFrom) else node.names)
        }
        assert not imported & {"logging", "structlog"}, path
        for call in (node for node in ast.walk(module) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Attribute) and call.func.attr == "log":
                subjects = [ast.unparse(call.func.value), *(ast.unparse(argument) for argument in call.args[:1])]
                named = [name for name in subjects if name == "event" or name.removeprefix("events.") in CONSTANTS]
                assert named, f"{path}:{call.lineno}"


def test_every_field_given_to_an_event_is_one_of_its_own() -> None:
    for path, module in _modules().items():
        for call in (node for node in ast.walk(module) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Attribute) and call.func.attr == "log":
                for subject in (call.func.value, *call.args[:1]):
                    if event := CONSTANTS.get(ast.unparse(subject).removeprefix("events.")):
                        given = {keyword.arg for keyword in call.keywords if keyword.arg}
                        assert given <= event.fields, f"{path}:{call.lineno}"
