"""What a refresh tells of itself: a trace and log records, in its file and to a collector, whatever that does."""

import base64
import gzip
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from google.protobuf import json_format
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, LogsData
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.proto.trace.v1.trace_pb2 import Status as SpanStatus

from kiket_worker import events
from kiket_worker.dbt.engine import Cancellation
from kiket_worker.ledger.runs import Status
from kiket_worker.refresh.pipeline import refresh
from kiket_worker.refresh.services import Services
from kiket_worker.settings import Settings
from kiket_worker.telemetry.process import Telemetry
from tests.support.collector import Collector, attributes, collector
from tests.support.dbt_scripts import until
from tests.support.publications import model, publication, publish
from tests.support.refreshes import Refreshes

GOOD = "build('a', 'b')"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FAILING = """
message = 'Database Error in model b (models/b.sql)\\n  invalid input syntax for type integer: "Fix the payroll leak"'
start('a'); finish('a'); start('b'); finish('b', 'error')
say('RunResultError', 'error', message)
write({"results": [result('a'), result('b', 'error', message)]})
sys.exit(1)
"""


@pytest.fixture
def exporting(refreshes: Refreshes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Collector], Services]]:
    """Services whose telemetry goes to a collector, as the environment's variables say it."""
    opened: list[Telemetry] = []

    def services(script: str, to: Collector, **variables: str) -> Services:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", to.url)
        monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "20")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        settings = Settings(DATABASE_URL="postgresql://x", RABBITMQ_URL="memory://", ARTIFACTS_URL="file:///x")
        opened.append(Telemetry.from_settings(settings, "here"))
        return replace(refreshes.services(script), telemetry=opened[-1])

    yield services
    for telemetry in opened:
        telemetry.close()
    # What still tries to send would go on into other tests.
    until(lambda: not any(thread.name.startswith("OtelBatch") for thread in threading.enumerate()), "exporters to end")


def lines(refreshes: Refreshes, run_id: UUID) -> list[dict[str, Any]]:
    raw = refreshes.store.get(f"acme/{run_id}/1/otel-logs.jsonl")
    return [json.loads(line) for line in gzip.decompress(raw).splitlines()]


def records_of(document: dict[str, Any]) -> list[LogRecord]:
    """The log records of a line, read by OpenTelemetry's own definition; ids are hexadecimal in OTLP's JSON."""
    for resource in document["resourceLogs"]:
        for scope in resource["scopeLogs"]:
            for record in scope["logRecords"]:
                for name in {"traceId", "spanId"} & record.keys():
                    record[name] = base64.b64encode(bytes.fromhex(record[name])).decode()
    data = json_format.ParseDict(document, LogsData())
    return [record for group in data.resource_logs for scope in group.scope_logs for record in scope.log_records]


def test_the_file_has_every_event_of_the_run_until_it_is_archived(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    assert refresh(run_id, refreshes.services(GOOD), Cancellation()) is Status.SUCCEEDED
    (line,) = lines(refreshes, run_id)
    (resource,) = line["resourceLogs"]
    told = {item["key"]: item["value"] for item in resource["resource"]["attributes"]}
    assert told["service.name"] == {"stringValue": "kiket-worker"}
    assert told["service.instance.id"] == {"stringValue": "here"}
    assert told["kiket.organization"] == {"stringValue": "acme"}
    assert told["kiket.run_id"] == {"stringValue": str(run_id)}
    assert told["kiket.attempt"] == {"intValue": "1"}
    assert len(told["kiket.bundle_digest"]["stringValue"]) == 64
    assert [scope["scope"]["name"] for scope in resource["scopeLogs"]] == ["kiket-worker", "dbt"]
    found = records_of(line)
    assert [record.event_name for record in found] == [
        *("run.claimed", "model.finished", "model.finished", "run.built"),
        *("LogStartLine", "LogModelResult", "LogStartLine", "LogModelResult"),
    ]
    assert {record.trace_id.hex() for record in found} == {run_id.hex}
    assert all(record.time_unix_nano and record.severity_text == "INFO" for record in found)
    nodes = [attributes(record.attributes).get("kiket.node_id") for record in found[4:]]
    assert nodes == ["model.fake.a", "model.fake.a", "model.fake.b", "model.fake.b"]
    assert attributes(found[1].attributes)["kiket.model_id"] == "model.fake.a"


def test_each_line_of_the_run_in_the_log_names_its_trace(refreshes: Refreshes) -> None:
    run_id = refreshes.request()
    refresh(run_id, refreshes.services(GOOD), Cancellation())
    assert {event["trace_id"] for event in refreshes.events()} == {run_id.hex}


def test_a_collector_gets_the_same_records_and_a_span_for_each_step_and_model(
    refreshes: Refreshes, exporting: Callable[..., Services]
) -> None:
    with collector() as receiving:
        services = exporting(
            GOOD,
            receiving,
            OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
            OTEL_EXPORTER_OTLP_HEADERS="a=b",
            OTEL_SERVICE_NAME="mine",
        )
        run_id = refreshes.request()
        assert refresh(run_id, services, Cancellation()) is Status.SUCCEEDED
        services.telemetry.close()
    spans = {span.name: span for span in receiving.spans}
    assert spans.keys() == {"refresh", "claim", "build", "model a", "model b", "archive", "record"}
    root = spans["refresh"]
    assert root.kind == Span.SPAN_KIND_CONSUMER
    assert root.parent_span_id == b""
    assert {span.trace_id for span in spans.values()} == {run_id.bytes}
    parents = {name: span.parent_span_id for name, span in spans.items() if name != "refresh"}
    build = spans["build"].span_id
    assert parents == dict.fromkeys(["claim", "build", "archive", "record"], root.span_id) | {
        "model a": build,
        "model b": build,
    }
    for span in spans.values():
        told = attributes(span.attributes)
        assert (told["kiket.organization"], told["kiket.run_id"], told["kiket.attempt"]) == ("acme", str(run_id), 1)
        assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= root.end_time_unix_nano
    assert attributes(spans["model a"].attributes)["kiket.node_id"] == "model.fake.a"
    assert attributes(root.attributes)["kiket.outcome"] == "succeeded"

    of_file = records_of(lines(refreshes, run_id)[0])
    came = {(record.event_name, record.time_unix_nano): record for record in receiving.records}
    for record in of_file:
        assert came[record.event_name, record.time_unix_nano].span_id == record.span_id
        told = attributes(came[record.event_name, record.time_unix_nano].attributes)
        assert attributes(record.attributes).items() <= told.items()
        assert (told["kiket.organization"], told["kiket.bundle_digest"]) == ("acme", services.bundle.digest)
    # What comes after the file was stored is told to the collector all the same.
    assert {record.event_name for record in receiving.records} - {record.event_name for record in of_file} == {
        "run.archived",
        "run.succeeded",
    }
    by_name = {record.event_name: record for record in receiving.records}
    assert by_name["run.claimed"].span_id == root.span_id
    assert by_name["run.built"].span_id == build
    assert by_name["LogModelResult"].span_id in {spans["model a"].span_id, spans["model b"].span_id}
    assert all(headers["a"] == "b" for headers in receiving.headers)
    assert attributes(receiving.logs[0].resource_logs[0].resource.attributes)["service.name"] == "mine"


def test_a_bundle_that_has_to_be_fetched_is_named_as_soon_as_it_is_there(
    refreshes: Refreshes, exporting: Callable[..., Services]
) -> None:
    (done,) = publish(refreshes, publication(model("mine")))
    assert done.run_id is not None
    with collector() as receiving:
        services = exporting(GOOD, receiving)
        assert refresh(done.run_id, services, Cancellation()) is Status.SUCCEEDED
        services.telemetry.close()
    named = {span.name: attributes(span.attributes).get("kiket.bundle_digest") for span in receiving.spans}
    assert named.pop("claim") is None
    assert named.keys() >= {"refresh", "build", "archive", "record"}
    assert set(named.values()) == {done.bundle_digest}
    of_records = {
        record.event_name: attributes(record.attributes).get("kiket.bundle_digest") for record in receiving.records
    }
    assert of_records.pop("run.claimed") is None
    assert set(of_records.values()) == {done.bundle_digest}


def test_the_callers_trace_is_continued(refreshes: Refreshes, exporting: Callable[..., Services]) -> None:
    with collector() as receiving:
        services = exporting(GOOD, receiving)
        run_id = refreshes.request(traceparent=CALLER)
        assert refresh(run_id, services, Cancellation()) is Status.SUCCEEDED
        services.telemetry.close()
    (root,) = [span for span in receiving.spans if span.name == "refresh"]
    assert root.parent_span_id.hex() == "b7ad6b7169203331"
    assert {span.trace_id.hex() for span in receiving.spans} == {"0af7651916cd43dd8448eb211c80319c"}
    assert {event["trace_id"] for event in refreshes.events()} == {"0af7651916cd43dd8448eb211c80319c"}


def test_a_failure_is_told_by_its_kind_and_without_values_of_rows(
    refreshes: Refreshes, exporting: Callable[..., Services]
) -> None:
    with collector() as receiving:
        services = exporting(FAILING, receiving)
        run_id = refreshes.request()
        assert refresh(run_id, services, Cancellation()) is Status.FAILED
        services.telemetry.close()
    spans = {span.name: span for span in receiving.spans}
    failed = {name for name, span in spans.items() if span.status.code == SpanStatus.STATUS_CODE_ERROR}
    assert failed == {"refresh", "build", "model b"}
    assert attributes(spans["refresh"].attributes)["error.type"] == "model_failed"
    assert attributes(spans["refresh"].attributes)["kiket.outcome"] == "failed"
    by_name = {record.event_name: record for record in receiving.records}
    assert by_name["run.failed"].severity_text == "ERROR"
    assert 'invalid input syntax for type integer: "…"' in by_name["model.failed"].body.string_value
    everything = str(receiving.logs) + str(receiving.traces) + refreshes.left(run_id)
    assert "RunResultError" in everything
    assert "payroll" not in everything


@pytest.mark.parametrize("behaviour", [{"status": 503}, {"status": 400}, {"silent": True}])
def test_a_collector_that_refuses_or_hangs_costs_records_and_nothing_else(
    refreshes: Refreshes, exporting: Callable[..., Services], behaviour: dict[str, Any]
) -> None:
    with collector(**behaviour) as receiving:
        services = exporting(GOOD, receiving)
        for _ in range(3):
            assert refresh(refreshes.request(), services, Cancellation()) is Status.SUCCEEDED
        services.telemetry.close()
        receiving.closing.set()
    dropped = {"logs": 0, "traces": 0}
    for event in refreshes.events():
        if event["event"] == "telemetry.dropped":
            dropped[event["signal"]] += event["records"]
    assert dropped == {"logs": 3 * 10, "traces": 3 * 7}


def test_what_comes_while_the_queue_is_full_is_dropped_and_counted(
    refreshes: Refreshes, exporting: Callable[..., Services]
) -> None:
    script = "for number in range(3000):\n    say('Note', msg=str(number))\n" + GOOD
    with collector(silent=True) as receiving:
        services = exporting(script, receiving, OTEL_BLRP_MAX_QUEUE_SIZE="512")
        run_id = refreshes.request()
        assert refresh(run_id, services, Cancellation()) is Status.SUCCEEDED
        until(lambda: any(event["event"] == "telemetry.dropped" for event in refreshes.events()), "it to be told")
        services.telemetry.close()
        receiving.closing.set()
    told = [event for event in refreshes.events() if event["event"] == "telemetry.dropped"]
    assert told[0]["records"] >= 1
    # One batch was in the hands of the collector, and of the others all are told of.
    assert sum(event["records"] for event in told if event["signal"] == "logs") >= 3000 + 10 - 512
    notes = [record for line in lines(refreshes, run_id) for record in records_of(line) if record.event_name == "Note"]
    assert [record.body.string_value for record in notes] == [str(number) for number in range(3000)]


def test_a_log_of_a_hundred_thousand_lines_is_bounded_and_says_what_is_missing(refreshes: Refreshes) -> None:
    script = (
        'for number in range(100_000):\n    print(\'{"info": {"name": "Note", "msg": "%d"}, "data": {}}\' % number)\n'
    )
    services = replace(refreshes.services(script + GOOD), telemetry=Telemetry("here", most_log_bytes=200_000))
    run_id = refreshes.request()
    assert refresh(run_id, services, Cancellation()) is Status.SUCCEEDED
    index = json.loads(refreshes.store.get(f"acme/{run_id}/1/index.json"))
    assert index["cut"].keys() == {"dbt.log", "otel-logs.jsonl"}
    sizes = {file["name"]: file["content_size"] for file in index["files"]}
    assert sizes["dbt.log"] < 201_000
    assert sizes["otel-logs.jsonl"] < 201_000
    log = gzip.decompress(refreshes.store.get(f"acme/{run_id}/1/dbt.log")).splitlines()
    (told,) = [number for number, line in enumerate(log) if b"LinesLeftOut" in line]
    assert json.loads(log[told])["data"] == index["cut"]["dbt.log"]
    assert len(log) - 1 + index["cut"]["dbt.log"]["lines"] == 100_000 + 4
    assert [record.event_name for line in lines(refreshes, run_id) for record in records_of(line)].count("log.cut") == 1


def test_what_belongs_to_no_attempt_gets_to_the_collector_too(
    refreshes: Refreshes, exporting: Callable[..., Services]
) -> None:
    with collector() as receiving:
        services = exporting(GOOD, receiving)
        events.TICKER_TICKED.log(queued=1, published=0, duration_seconds=0.5)
        refresh(refreshes.request(), services, Cancellation())
        services.telemetry.close()
        events.TICKER_TICKED.log(queued=2, published=0, duration_seconds=0.5)
    told = [record for record in receiving.records if record.event_name == "ticker.ticked"]
    assert [attributes(record.attributes)["kiket.queued"] for record in told] == [1]
    names = [record.event_name for record in receiving.records]
    assert names.count("run.claimed") == 1


def test_an_event_of_another_run_does_not_get_into_the_file(refreshes: Refreshes, tmp_path: Any) -> None:
    telemetry, mine, other = Telemetry("here"), UUID(int=1), UUID(int=2)
    about = {"organization": "acme", "attempt": 1, "bundle_digest": "x", "traceparent": None, "began": 1}
    with telemetry.recording(tmp_path, run_id=mine, **about) as recording:
        events.RUN_QUEUED.log(organization="acme", run_id=str(mine))
        events.RUN_QUEUED.log(organization="acme", run_id=str(other))
        recording.seal()
        (line,) = recording.path.read_text().splitlines()
    (record,) = records_of(json.loads(line))
    assert attributes(record.attributes)["kiket.run_id"] == str(mine)
