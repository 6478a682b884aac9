"""Dashboards as they are shown: what of their files is for readers, beside the queries that widgets have.

What was published has been checked; of a file that cannot be read all the same, as after a change of the rules, what
can be is shown.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kiket_worker.dbt.overlay import Kind, Overlay
from kiket_worker.definitions.dashboards.dashboard_file import ENTRY_KEYS, read_dashboard
from kiket_worker.definitions.dashboards.document import Dashboard, QueryConfig, Source, Widget, WidgetType
from kiket_worker.definitions.dashboards.query_file import read_query
from kiket_worker.definitions.dashboards.reading import Reading
from kiket_worker.definitions.yaml_document import InvalidYaml, Located, read_yaml

_TITLES = ("title", "label", "name")
_MOST_TEXT_CHARACTERS = 20_000


@dataclass(frozen=True)
class ShownColumn:
    """A column that a widget names, and what it is called there."""

    name: str
    title: str


@dataclass(frozen=True)
class ShownWidget:
    """A widget. `config` is None for a text, and where there is no query; then `fault` says why."""

    id: str
    type: str
    title: str
    description: str = ""
    text: str = ""
    config: QueryConfig | None = None
    fault: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def columns(self, *keys: str) -> list[ShownColumn]:
        """The columns under the first of these keys of `visualization` and `options` that there is."""
        stated = next((self.settings[key] for key in keys if self.settings.get(key) is not None), None)
        entries = stated if isinstance(stated, list) else [stated]
        return [column for entry in entries if (column := _column(entry)) is not None]

    def number(self, *keys: str) -> float | None:
        """The number under the first of these keys that has one."""
        found = (self.settings.get(key) for key in keys)
        return next((float(one) for one in found if isinstance(one, int | float) and not isinstance(one, bool)), None)


@dataclass(frozen=True)
class ShownAlert:
    """An alert: when which roles are told."""

    name: str
    condition: str
    roles: tuple[str, ...]


@dataclass(frozen=True)
class ShownDashboard:
    """A dashboard. `repository` is the name under which its overlay was published."""

    repository: str
    file: str
    id: str
    name: str
    description: str
    widgets: tuple[ShownWidget, ...]
    alerts: tuple[ShownAlert, ...]


def dashboards_of(repository: str, overlay: Overlay) -> tuple[ShownDashboard, ...]:
    """The dashboards of an overlay, in the order of their files; those without an id are left out."""
    queries = dict(_queries(overlay))
    return tuple(
        shown
        for path, text in overlay.of_kind(Kind.DASHBOARD).items()
        if (document := _document(text)) is not None
        and (dashboard := read_dashboard(Reading(path), document)) is not None
        and (shown := _dashboard(repository, dashboard, document, queries)).id
    )


def _queries(overlay: Overlay) -> Iterator[tuple[str, QueryConfig | None]]:
    for path, text in overlay.of_kind(Kind.QUERY).items():
        document = _document(text)
        query = read_query(Reading(path), document) if document is not None else None
        if query is not None:
            yield query.id, query.config


def _document(text: str) -> Located | None:
    try:
        return read_yaml(text)
    except InvalidYaml:
        return None


def _dashboard(
    repository: str, dashboard: Dashboard, document: Located, queries: Mapping[str, QueryConfig | None]
) -> ShownDashboard:
    stated = document.get("dashboard") or document
    # Widgets and alerts were read of the items that are mappings, in their order.
    widgets = [item.plain() for item in _items(stated, "widgets")]
    alerts = [item.plain() for item in _items(stated, "alerts")]
    return ShownDashboard(
        repository=repository,
        file=dashboard.file,
        id=dashboard.id,
        name=_text(_plain(stated, "name")) or dashboard.id,
        description=_text(_plain(stated, "description")),
        widgets=tuple(_widget(widget, said, queries) for widget, said in zip(dashboard.widgets, widgets, strict=False)),
        alerts=tuple(_alert(number, said) for number, said in enumerate(alerts, 1)),
    )


def _items(stated: Located, key: str) -> list[Located]:
    value = stated.get(key)
    return [item for item in value.items() if isinstance(item.content, dict)] if value is not None else []


def _widget(widget: Widget, said: Mapping[str, Any], queries: Mapping[str, QueryConfig | None]) -> ShownWidget:
    kind = _text(said.get("type"))
    config, fault = (None, "") if kind == WidgetType.TEXT else _config(widget.source, queries)
    settings: dict[str, Any] = {}
    for part in ("options", "visualization"):
        value = said.get(part)
        settings |= value if isinstance(value, dict) else {}
    settings |= {key: said[key] for key in ("format", "thresholds") if key in said}
    return ShownWidget(
        id=widget.id,
        type=kind,
        title=_text(said.get("title")) or widget.id,
        description=_text(said.get("description")),
        text=_text(said.get("text")),
        config=config,
        fault=fault,
        settings=settings,
    )


def _config(source: Source | None, queries: Mapping[str, QueryConfig | None]) -> tuple[QueryConfig | None, str]:
    if source is None:
        return None, "The widget has no query over an analytics model."
    config = source.config
    if config is None:
        assert source.name is not None  # A source has the one or the other.
        config = queries[source.name] if source.name in queries else QueryConfig(source.name)
    if config is None:
        return None, f"The query {source.name} is written in SQL, which is not run here: describe it by query_config."
    if not config.is_whole:
        return None, "The widget's query cannot be read whole; validate the repository to see why."
    return config, ""


def _alert(number: int, said: Mapping[str, Any]) -> ShownAlert:
    roles = said.get("notify_roles")
    return ShownAlert(
        name=_text(said.get("name")) or f"Alert {number}",
        condition=_text(said.get("condition")) or "a condition of the platform's own",
        roles=tuple(role for role in roles if isinstance(role, str)) if isinstance(roles, list) else (),
    )


def _column(entry: Any) -> ShownColumn | None:
    if isinstance(entry, dict):
        name = next((entry[key] for key in ENTRY_KEYS if isinstance(entry.get(key), str)), None)
        title = next((entry[key] for key in _TITLES if isinstance(entry.get(key), str)), name)
        return ShownColumn(name, title) if name and title else None
    return ShownColumn(entry, entry) if isinstance(entry, str) and entry else None


def _plain(stated: Located, key: str) -> Any:
    value = stated.get(key)
    return value.plain() if value is not None else None


def _text(value: Any) -> str:
    return value.strip()[:_MOST_TEXT_CHARACTERS] if isinstance(value, str) else ""
