"""The dashboard of `deploy/dashboards/`, as far as tests look at it."""

import json
from pathlib import Path
from typing import Any

import kiket_worker

DASHBOARD = Path(kiket_worker.__file__).parent.parent / "deploy" / "dashboards" / "kiket-worker.json"


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def panels() -> list[dict[str, Any]]:
    """Every panel that shows something."""
    return [panel for panel in document()["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    """Every query, with Grafana's variables in place."""
    return [
        target["expr"].replace("$__rate_interval", "5m").replace("$namespace", ".*")
        for panel in panels()
        for target in panel["targets"]
    ]
