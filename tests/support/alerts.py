"""The alert rules of `deploy/alerts/`, read into one form."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import kiket_worker
from tests.support.selectors import Rule, filter_pattern, logql

FOLDER = Path(kiket_worker.__file__).parent.parent / "deploy" / "alerts"
PROMETHEUS, LOKI, CLOUDWATCH = (
    FOLDER / name for name in ("prometheus-rules.yaml", "loki-rules.yaml", "cloudwatch-alarms.yaml")
)


@dataclass(frozen=True)
class Alert:
    """What every rule says of itself, whatever evaluates it. `text` is all that people are shown."""

    name: str
    severity: str
    owner: str
    events: frozenset[str]
    runbook: str
    text: str


@dataclass(frozen=True)
class LogAlert(Alert):
    """A rule on log lines."""

    rule: Rule


@dataclass(frozen=True)
class MetricAlert(Alert):
    """A rule on metrics."""

    group: str
    expression: str


def prometheus() -> list[MetricAlert]:
    return [
        MetricAlert(**_common(rule), group=group["name"], expression=rule["expr"])
        for group in yaml.safe_load(PROMETHEUS.read_text())["groups"]
        for rule in group["rules"]
    ]


def loki() -> list[LogAlert]:
    return [
        LogAlert(**_common(rule), rule=logql(rule["expr"]))
        for group in yaml.safe_load(LOKI.read_text())["groups"]
        for rule in group["rules"]
    ]


def cloudwatch() -> list[LogAlert]:
    resources = yaml.safe_load(CLOUDWATCH.read_text())["Resources"]
    return [
        _from_cloudwatch(resource["Properties"], resources[f"{name}Lines"]["Properties"])
        for name, resource in resources.items()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    ]


def _common(rule: dict[str, Any]) -> dict[str, Any]:
    notes = rule["annotations"]
    return {
        "name": rule["alert"],
        "severity": rule["labels"]["severity"],
        "owner": rule["labels"]["owner"],
        "events": frozenset(notes["event"].split(", ")),
        "runbook": notes["runbook"],
        "text": f"{notes['summary']}\n{notes['description']}",
    }


def _from_cloudwatch(alarm: dict[str, Any], lines: dict[str, Any]) -> LogAlert:
    text = alarm["AlarmDescription"]
    found = re.fullmatch(r"(.*) Event: (.*)\. Severity: (\w+)\. Owner: (\w+)\. Runbook: (\S+)", text)
    assert found, text
    (metric,) = lines["MetricTransformations"]
    # The alarm looks at what its filter counts.
    assert (metric["MetricNamespace"], metric["MetricName"]) == (alarm["Namespace"], alarm["MetricName"])
    return LogAlert(
        name=alarm["AlarmName"],
        severity=found[3],
        owner=found[4],
        events=frozenset(found[2].split(", ")),
        runbook=found[5],
        text=found[1],
        rule=filter_pattern(lines["FilterPattern"]),
    )
