"""Definition repositories of dashboards, checked without a database."""

import re
from pathlib import Path
from typing import Any

from kiket_worker.dbt.overlay import Overlay
from kiket_worker.definitions.dashboards.checks import check_dashboards
from kiket_worker.definitions.problem import Problem

RULES = Path(__file__).parent.parent / "repositories" / "rules"
BOARD = ".kiket/analytics/dashboards/team.yaml"
QUERY = ".kiket/analytics/queries/throughput.yaml"

# The marts of the core project, as its YAML declares them; tests/unit/test_dashboard_files.py compares.
CORE: dict[str, dict[str, str]] = {
    "dim_projects": {
        "project_id": "bigint",
        "project_key": "text",
        "project_name": "text",
        "is_archived": "boolean",
        "created_on": "date",
    },
    "fct_cycle_time": {"project_id": "bigint", "completed_on": "date", "avg_cycle_days": "numeric(12,4)"},
    "fct_throughput": {"project_id": "bigint", "completed_on": "date", "issues_completed": "bigint"},
    "fct_usage_events": {
        "project_id": "bigint",
        "recorded_on": "date",
        "metric": "text",
        "total_quantity": "numeric",
    },
    "fct_epic_rollups": {
        "project_id": "bigint",
        "epic_id": "bigint",
        "epic_title": "text",
        "epic_status": "text",
        "child_count": "bigint",
        "total_story_points": "bigint",
        "completed_story_points": "bigint",
        "completion_ratio": "numeric(5,4)",
        "overdue_child_count": "bigint",
        "blocked_child_count": "bigint",
        "guardrail_status": "text",
        "guardrail_reason": "text",
    },
}


def repository(folder: Path) -> Overlay:
    return Overlay(
        {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}
    )


def check(overlay: Overlay | dict[str, str] | str, **options: Any) -> list[Problem]:
    """The problems of a repository, of its files, or of the one dashboard in a text."""
    if isinstance(overlay, str):
        overlay = {BOARD: overlay}
    if isinstance(overlay, dict):
        overlay = Overlay(overlay)
    relations = options.pop("relations", CORE)
    return check_dashboards(overlay, relations, schema=options.pop("schema", "analytics_org_acme"), **options)


def board(*widgets: str, alerts: str = "") -> str:
    """A dashboard with these widgets, each in YAML's flow style without its id."""
    lines = ['model_version: "1.0"', "dashboard:", "  id: team", "  name: Team", "  widgets:"]
    lines += [f"    - {{id: w{number}, {widget}}}" for number, widget in enumerate(widgets, start=1)] or ["    []"]
    return "\n".join(lines) + f"\n{alerts}\n"


def widget(query_config: str, rest: str = "type: table") -> str:
    return f"{rest}, query_config: {{{query_config}}}"


def guide_example() -> Overlay:
    """The files that docs/dashboards.md shows, each named in its first line."""
    text = (Path(__file__).parents[2] / "docs" / "dashboards.md").read_text()
    blocks = re.findall(r"```yaml\n# (\.kiket/\S+)\n(.*?)```", text, re.DOTALL)
    return Overlay(dict(blocks))
