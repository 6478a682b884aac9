"""The demo's report: one HTML page that needs nothing beside itself."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from jinja2 import Environment, PackageLoader


@dataclass(frozen=True)
class Week:
    """One week of an organisation: issues completed, and their mean cycle time in days."""

    monday: date
    completed: int
    cycle_days: float


@dataclass(frozen=True)
class OrganizationReport:
    """What the report tells of one organisation."""

    slug: str
    name: str
    plan: str
    status: str
    models: int
    usage_events: int
    duration_seconds: float | None
    weeks: list[Week]


@dataclass(frozen=True)
class Mark:
    """One week in a chart, in the chart's own units: 0 to 100 across, 0 to 100 up."""

    x: float
    width: float
    height: float
    label: str


@dataclass(frozen=True)
class Chart:
    """A series of weeks scaled to its highest value."""

    title: str
    highest: str
    marks: list[Mark]

    @property
    def line(self) -> str:
        """The series as the points of an SVG polyline."""
        return " ".join(f"{mark.x + mark.width / 2:.2f},{100 - mark.height:.2f}" for mark in self.marks)


def write_report(path: Path, organizations: list[OrganizationReport], faults: list[str]) -> Path:
    """Write the page and give its path."""
    environment = Environment(loader=PackageLoader(__package__), autoescape=True)
    environment.globals.update(throughput=throughput_chart, cycle_time=cycle_time_chart)
    page = environment.get_template("report.html.jinja").render(organizations=organizations, faults=faults)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def throughput_chart(weeks: list[Week]) -> Chart:
    """Issues completed a week."""
    values = [float(week.completed) for week in weeks]
    labels = [f"week of {week.monday:%d %b %Y}: {week.completed} issues" for week in weeks]
    return _chart("Issues completed a week", values, labels, f"{max(values, default=0):.0f}")


def cycle_time_chart(weeks: list[Week]) -> Chart:
    """Mean cycle time by week of completion, in days."""
    values = [week.cycle_days for week in weeks]
    labels = [f"week of {week.monday:%d %b %Y}: {week.cycle_days:.1f} days" for week in weeks]
    return _chart("Mean cycle time, days", values, labels, f"{max(values, default=0):.1f}")


def _chart(title: str, values: list[float], labels: list[str], highest: str) -> Chart:
    width = 100 / max(len(values), 1)
    top = max(values, default=0) or 1
    marks = [
        Mark(x=number * width, width=width, height=100 * value / top, label=label)
        for number, (value, label) in enumerate(zip(values, labels, strict=True))
    ]
    return Chart(title, highest, marks)
