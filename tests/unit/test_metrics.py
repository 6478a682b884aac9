"""Counters fed by events: each event counts where it should, and nothing that it says makes a new series."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import kiket_worker
from kiket_worker import errors, events
from kiket_worker.events import CATALOGUE
from kiket_worker.telemetry.metrics import EventMetrics

SOURCE = Path(kiket_worker.__file__).parent


@pytest.fixture
def registry() -> Iterator[CollectorRegistry]:
    made = CollectorRegistry()
    end = events.listen(EventMetrics(made).note)
    yield made
    end()


def series(registry: CollectorRegistry) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in registry.collect()
        for sample in family.samples
    }


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_a_run_is_counted_by_how_it_ended(registry: CollectorRegistry) -> None:
    events.RUN_SUCCEEDED.log(organization="acme", duration_seconds=2.5)
    events.RUN_FAILED.log(organization="acme", error_kind="model_failed", duration_seconds=0.2)
    events.RUN_CANCELLED.log(organization="acme", duration_seconds=0.2)
    events.RUN_SKIPPED.log(organization="acme", error_kind="organization_gone")
    assert value(registry, "kiket_runs_total", outcome="succeeded", error_kind="") == 1
    assert value(registry, "kiket_runs_total", outcome="failed", error_kind="model_failed") == 1
    assert value(registry, "kiket_runs_total", outcome="failed", error_kind="dbt_failed") == 0
    assert value(registry, "kiket_runs_total", outcome="cancelled", error_kind="") == 1
    assert value(registry, "kiket_runs_total", outcome="skipped", error_kind="organization_gone") == 1
    assert value(registry, "kiket_run_duration_seconds_sum", outcome="succeeded") == 2.5
    assert value(registry, "kiket_run_duration_seconds_bucket", outcome="succeeded", le="1.0") == 0
    assert value(registry, "kiket_run_duration_seconds_bucket", outcome="succeeded", le="3.0") == 1


@pytest.mark.parametrize(
    ("event", "step"),
    [
        (events.RUN_CLAIMED, "claim"),
        (events.RUN_BUILT, "build"),
        (events.RUN_ARCHIVED, "archive"),
        (events.RUN_SUCCEEDED, "record"),
    ],
    ids=lambda given: given if isinstance(given, str) else given.name,
)
def test_a_step_is_measured_by_itself(registry: CollectorRegistry, event: events.Event, step: str) -> None:
    event.log(step_seconds=0.25, organization="acme")
    assert value(registry, "kiket_step_duration_seconds_sum", step=step) == 0.25
    event.log(organization="acme")
    assert value(registry, "kiket_step_duration_seconds_count", step=step) == 1


def test_what_is_stored_retried_faulty_and_not_replayed_is_counted(registry: CollectorRegistry) -> None:
    events.RUN_ARCHIVED.log(bytes=1000, files=3)
    events.RUN_ARCHIVED.log(bytes=24, files=1)
    events.RUN_RETRIED.log(error_kind="artifacts_unreachable")
    events.WORKER_FAILED.log(error_kind="postgres_unreachable")
    events.TICKER_FAILED.log(error_kind="rabbitmq_unreachable")
    events.ENGINE_DEOPTIMISED.log(reason="answer")
    assert value(registry, "kiket_artifact_bytes_total") == 1024
    assert value(registry, "kiket_artifact_files_total") == 4
    assert value(registry, "kiket_retries_total", error_kind="artifacts_unreachable") == 1
    assert value(registry, "kiket_faults_total", event="worker.failed", error_kind="postgres_unreachable") == 1
    assert value(registry, "kiket_faults_total", event="ticker.failed", error_kind="rabbitmq_unreachable") == 1
    assert value(registry, "kiket_faults_total", event="ticker.failed", error_kind="postgres_unreachable") == 0
    assert value(registry, "kiket_engine_deoptimised_total", reason="answer") == 1
    assert value(registry, "kiket_events_total", event="run.archived") == 2


def test_the_number_of_series_does_not_grow_with_what_is_refreshed(registry: CollectorRegistry) -> None:
    """Every event with every field it has, for many organisations, with words that nobody foresaw."""
    before = series(registry)

    def of(name: str, number: int) -> Any:
        json_type = events.FIELDS[name].json_type
        return number if json_type in {"integer", "number"} else f"{name}-{number}"

    for event in CATALOGUE.values():
        for number in range(50):
            event.log(**{name: of(name, number) for name in event.fields})
    after = series(registry)
    # A histogram's series and a counter's are there from the start; only what is unforeseen may add its one `other`.
    assert {labels for _, labels in after - before} <= {(("error_kind", "other"), ("outcome", "skipped"))}
    assert value(registry, "kiket_runs_total", outcome="failed", error_kind="other") == 50
    assert "-49" not in generate_latest(registry).decode()


def test_every_series_is_there_before_the_first_event(registry: CollectorRegistry) -> None:
    """Prometheus sees no increase in a series that appears with its first failure."""
    failed = {dict(labels)["error_kind"] for name, labels in series(registry) if name == "kiket_runs_total"}
    kinds = {kind.kind for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "kind")}
    assert kinds <= failed
    assert {dict(labels)["event"] for name, labels in series(registry) if name == "kiket_events_total"} == set(
        CATALOGUE
    )


def test_every_reason_not_to_replay_has_a_series(registry: CollectorRegistry) -> None:
    text = "".join(path.read_text() for path in SOURCE.rglob("*.py"))
    named = set(re.findall(r'Deoptimised\(\s*"(\w+)"', text))
    counted = {dict(labels)["reason"] for name, labels in series(registry) if name == "kiket_engine_deoptimised_total"}
    assert named
    assert counted == named | {"other"}
