"""A process's monitoring as Prometheus and an orchestrator ask it."""

import json
import urllib.error
import urllib.request
from typing import Any

from prometheus_client.parser import text_string_to_metric_families


def asked(url: str, method: str = "GET") -> tuple[int, Any]:
    """The status and the body, which is read where it is JSON."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30) as answer:
            status, body = answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        status, body = refusal.code, refusal.read().decode()
    return status, json.loads(body) if body.startswith("{") else body


def samples(url: str) -> dict[str, float]:
    """What `/metrics` of this process says now, by series: `name{label="value"}` with labels in their order."""
    status, text = asked(f"{url}/metrics")
    assert status == 200, text
    return {
        series(sample.name, sample.labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def series(name: str, labels: dict[str, str]) -> str:
    inside = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{inside}}}" if inside else name
