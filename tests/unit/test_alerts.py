"""Events, log lines, metrics, alert rules and their pages say the same: whatever drifts, something here fails."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, Metric

import kiket_worker
from kiket_worker import errors, events
from kiket_worker.events import CATALOGUE
from kiket_worker.ledger.backlog import Backlog
from kiket_worker.monitoring.gauges import LedgerGauges, QueueGauges, WorkerGauges
from kiket_worker.monitoring.question import Question
from kiket_worker.queue.broker import CONSUMED, QUEUE_DEAD
from kiket_worker.telemetry.metrics import EventMetrics
from tests.support import alerts
from tests.support.alerts import Alert, LogAlert, MetricAlert

ROOT = Path(kiket_worker.__file__).parent.parent
MONITORING = (ROOT / "docs" / "monitoring.md").read_text()
RUNBOOK = (ROOT / "docs" / "operations.md").read_text()

METRIC_ALERTS, LOKI, CLOUDWATCH = alerts.prometheus(), alerts.loki(), alerts.cloudwatch()
ALL: list[Alert] = [*METRIC_ALERTS, *LOKI, *CLOUDWATCH]
KINDS = {kind.kind for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "kind")}
REJECTIONS = {"message_invalid", "organization_unknown"}


def rows_of(section: str) -> list[list[str]]:
    """The cells of the tables in a section of the monitoring page, without their heads."""
    _, _, text = MONITORING.partition(f"# {section}\n")
    lines = [line for line in re.split(r"^#+ ", text, maxsplit=1, flags=re.MULTILINE)[0].splitlines() if "|" in line]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")]
    return [row for row in cells if row[0].startswith(("`", "[`"))]


def possible_lines() -> Iterator[dict[str, Any]]:
    """A line of each event with each kind of error that it may have."""
    for event in CATALOGUE.values():
        line = dict.fromkeys(event.fields, "x") | {"event": event.name, "level": event.level_name}
        kinds = (REJECTIONS if event is events.REFRESH_REJECTED else KINDS) if "error_kind" in event.fields else {None}
        for kind in kinds:
            yield line | ({"error_kind": kind} if kind else {})


def failures(of: list[LogAlert]) -> list[LogAlert]:
    """The alerts that such a line raises, without those that its absence does."""
    return [alert for alert in of if alert.name != "KiketTickerAbsent"]


def test_each_line_calls_one_person_at_most_and_loki_and_cloudwatch_the_same() -> None:
    for line in possible_lines():
        called = [alert.name for alert in failures(LOKI) if alert.rule.selects(line)]
        assert len(called) <= 1, (line, called)
        assert called == [alert.name for alert in failures(CLOUDWATCH) if alert.rule.selects(line)], line


def test_what_is_wrong_has_an_alert_or_a_reason_why_it_has_none() -> None:
    needing = {event.name for event in CATALOGUE.values() if event.level >= logging.ERROR or event.remedy}
    excused = {name.strip("`") for name, _ in rows_of("What has no alert")}
    for rules in (failures(LOKI), failures(CLOUDWATCH)):
        named = {name for alert in rules for name in alert.rule.events}
        assert needing - named == excused - {"run.cancelled"}
        assert named & excused == set()
    assert needing <= {name for alert in METRIC_ALERTS for name in alert.events} | excused


def test_every_error_kind_of_a_failed_run_calls_somebody() -> None:
    for kind in KINDS:
        line = {"event": "run.failed", "error_kind": kind}
        called = [alert.name for alert in LOKI if alert.rule.selects(line)]
        assert len(called) == (kind != "attempts_exhausted"), (kind, called)


@pytest.mark.parametrize("alert", [*LOKI, *CLOUDWATCH], ids=lambda alert: f"{alert.name}-{alert.rule.over}")
def test_a_rule_on_lines_names_events_fields_and_kinds_that_there_are(alert: LogAlert) -> None:
    assert alert.rule.events == alert.events <= set(CATALOGUE)
    for field, value in alert.rule.compared - {("event", name) for name in alert.events}:
        assert field == "error_kind"
        assert value in KINDS | REJECTIONS
    named = {field for field, _ in alert.rule.compared} | set(alert.rule.grouped_by)
    for name in alert.events:
        assert named - {"event"} <= CATALOGUE[name].fields
    assert set(re.findall(r"\$labels\.(\w+)", alert.text)) <= set(alert.rule.grouped_by)


@pytest.fixture(scope="module")
def exposed() -> list[Metric]:
    """Every metric of a process that ticks and refreshes."""
    registry = CollectorRegistry()
    EventMetrics(registry)
    backlog = Backlog(1, 1.0, {}, {}, 1, 0, 0, 1.0)
    registry.register(LedgerGauges(Question(lambda: backlog)))
    registry.register(QueueGauges(Question(lambda: dict.fromkeys([*CONSUMED, QUEUE_DEAD], 0))))
    registry.register(WorkerGauges(lambda: 0, 2))
    return list(registry.collect())


def by_series(exposed: list[Metric]) -> dict[str, dict[str, set[str]]]:
    """The labels of each metric, and the values that each has from the start."""
    found: dict[str, dict[str, set[str]]] = {}
    for family in exposed:
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


@pytest.mark.parametrize("alert", METRIC_ALERTS, ids=lambda alert: alert.name)
def test_a_rule_on_metrics_names_series_that_are_exported(alert: MetricAlert, exposed: list[Metric]) -> None:
    series = by_series(exposed)
    assert alert.events <= set(CATALOGUE)
    named = re.findall(r"(kiket_\w+)(?:\{([^}]*)\})?", alert.expression)
    assert named
    for metric, matchers in named:
        assert metric in series
        for label, operator, value in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', matchers):
            for one in value.split("|"):
                pattern = one if "~" in operator else re.escape(one)
                assert any(re.fullmatch(pattern, known) for known in series[metric][label]), (metric, label, one)
    assert set(re.findall(r'event="([^"]*)"', alert.expression)) <= alert.events
    assert set(re.findall(r"\$labels\.(\w+)", alert.text)) <= set(re.findall(r"by \((\w+)\)", alert.expression))


def test_an_alert_is_the_same_whatever_raises_it() -> None:
    known = {alert.name: alert for alert in METRIC_ALERTS}
    assert [alert.name for alert in LOKI] == [alert.name for alert in CLOUDWATCH]
    assert {alert.name for alert in METRIC_ALERTS if alert.group == "kiket-worker-events"} <= {a.name for a in LOKI}
    for alert in [*LOKI, *CLOUDWATCH]:
        same = known[alert.name]
        assert (alert.severity, alert.owner, alert.events, alert.runbook) == (
            *(same.severity, same.owner, same.events, same.runbook),
        )
    resources = yaml.safe_load(alerts.CLOUDWATCH.read_text())["Resources"]
    for alert in CLOUDWATCH:
        (action,) = resources[alert.name]["Properties"]["AlarmActions"]
        topic = (
            "PageTopic" if alert.severity == "page" else "TicketTopic" if alert.owner == "operator" else "OthersTopic"
        )
        assert action == {"Ref": topic}


def test_a_filter_pattern_is_as_long_as_cloudwatch_allows() -> None:
    resources = yaml.safe_load(alerts.CLOUDWATCH.read_text())["Resources"]
    patterns = [one["Properties"]["FilterPattern"] for one in resources.values() if "Filter" in one["Type"]]
    assert patterns
    assert max(map(len, patterns)) <= 1024


def test_each_alert_has_a_section_of_the_runbook_and_no_other_has() -> None:
    sections = re.findall(r"^### (Kiket\w+)$", RUNBOOK, re.MULTILINE)
    assert len(sections) == len(set(sections))
    assert set(sections) == {alert.name for alert in METRIC_ALERTS}
    for alert in ALL:
        # GitHub's anchor of a heading that is one word.
        assert alert.runbook == f"docs/operations.md#{alert.name.lower()}"
        section = RUNBOOK.partition(f"### {alert.name}\n")[2].partition("\n#")[0]
        assert "\nLook: " in section
        assert "\nDo: " in section


def test_the_page_lists_each_alert() -> None:
    logs = {alert.name for alert in LOKI}
    assert rows_of("Alerts") == [
        [
            f"[`{alert.name}`](operations.md#{alert.name.lower()})",
            alert.severity,
            alert.owner,
            ", ".join(f"`{name}`" for name in _in_order(alert)),
            "metrics, logs" if alert.name in logs else "metrics",
        ]
        for alert in METRIC_ALERTS
    ]


def _in_order(alert: Alert) -> list[str]:
    rules = yaml.safe_load(alerts.PROMETHEUS.read_text())["groups"]
    (note,) = [r["annotations"]["event"] for group in rules for r in group["rules"] if r["alert"] == alert.name]
    return str(note).split(", ")


def test_the_page_lists_each_metric_as_it_is_exported(exposed: list[Metric]) -> None:
    def name(family: Metric) -> str:
        return f"{family.name}_total" if family.type == "counter" else family.name

    def labels(family: Metric) -> str:
        found = [label for label in family.samples[0].labels if label != "le"]
        return ", ".join(found) or "–"

    expected = {f"`{name(family)}`": [family.type, labels(family), family.documentation] for family in exposed}
    assert {row[0]: row[1:] for row in rows_of("Metrics")} == expected


def test_no_metric_has_a_label_that_grows(exposed: list[Metric]) -> None:
    used = {label for labels in by_series(exposed).values() for label in labels}
    assert used == {"event", "outcome", "error_kind", "step", "reason", "plan", "status", "state", "queue", "le"}
