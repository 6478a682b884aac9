"""The dashboard asks for what the processes export, and is what its script writes."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector

from kiket_worker.ledger.backlog import Backlog
from kiket_worker.monitoring.gauges import LedgerGauges, QueueGauges, WorkerGauges
from kiket_worker.monitoring.question import Question
from kiket_worker.queue.broker import CONSUMED, QUEUE_DEAD
from kiket_worker.telemetry.metrics import EventMetrics
from tests.support import grafana

# What a scrape adds, and a histogram.
SCRAPED = {"instance", "namespace", "pod", "job"}
PANELS = grafana.panels()


@pytest.fixture(scope="module")
def exported() -> dict[str, dict[str, set[str]]]:
    """The labels of each series that a process exports which ticks and refreshes, and their values from the start."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    EventMetrics(registry)
    registry.register(LedgerGauges(Question(lambda: Backlog(1, 1.0, {}, {}, 1, 0, 0, 1.0))))
    registry.register(QueueGauges(Question(lambda: dict.fromkeys([*CONSUMED, QUEUE_DEAD], 0))))
    registry.register(WorkerGauges(lambda: 0, 2))
    found: dict[str, dict[str, set[str]]] = {}
    for family in registry.collect():
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


def faults(expression: str, legend: str, exported: dict[str, dict[str, set[str]]]) -> list[str]:
    named = re.findall(r"\b((?:kiket|process)_\w+)(?:\{([^}]*)\})?", expression)
    found = [] if named else ["no metric"]
    labels: set[str] = set()
    for name, selectors in named:
        if name not in exported:
            found.append(name)
            continue
        labels |= set(exported[name])
        for label, value in re.findall(r'(\w+)=~?"([^"]*)"', selectors):
            if label not in SCRAPED and value not in exported[name].get(label, set()):
                found.append(f"{name}{{{label}={value}}}")
    asked = {label for group in re.findall(r"(?:by|on) \(([^)]*)\)", expression) for label in re.split(r",\s*", group)}
    asked |= set(re.findall(r"\{\{(\w+)\}\}", legend))
    return found + sorted(asked - labels - SCRAPED)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_each_panel_shows_what_is_exported(panel: dict[str, Any], exported: dict[str, dict[str, set[str]]]) -> None:
    assert panel["description"]
    for target in panel["targets"]:
        assert faults(target["expr"], target["legendFormat"], exported) == []


@pytest.mark.parametrize(
    ("expression", "legend", "fault"),
    [
        ("max(kiket_due_organisations)", "", "kiket_due_organisations"),
        ("sum by (organization) (kiket_runs_total)", "", "organization"),
        ('sum(kiket_runs_total{outcome="lost"})', "", "kiket_runs_total{outcome=lost}"),
        ("kiket_leases", "{{plan}}", "plan"),
    ],
)
def test_the_check_sees_what_is_not_exported(
    expression: str, legend: str, fault: str, exported: dict[str, dict[str, set[str]]]
) -> None:
    assert faults(expression, legend, exported) == [fault]


def test_every_metric_of_the_product_is_shown(exported: dict[str, dict[str, set[str]]]) -> None:
    shown = " ".join(grafana.expressions())
    metrics = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in exported if name.startswith("kiket_")}
    assert {name for name in metrics if name not in shown} == set()


def test_panels_have_places_and_ids_of_their_own() -> None:
    panels = grafana.document()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_file_is_what_its_script_writes(tmp_path: Path) -> None:
    script = grafana.DASHBOARD.parents[2] / "scripts" / "write-dashboard"
    (tmp_path / "scripts").mkdir()
    (tmp_path / "deploy" / "dashboards").mkdir(parents=True)
    (tmp_path / "scripts" / script.name).write_bytes(script.read_bytes())
    subprocess.run([sys.executable, tmp_path / "scripts" / script.name], check=True)
    assert (tmp_path / "deploy" / "dashboards" / grafana.DASHBOARD.name).read_bytes() == grafana.DASHBOARD.read_bytes()
