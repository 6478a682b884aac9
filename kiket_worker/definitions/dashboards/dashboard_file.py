"""Reading a dashboard file."""

from collections.abc import Iterator

from kiket_worker.definitions.dashboards import rules
from kiket_worker.definitions.dashboards.document import Alert, Dashboard, Shown, Source, Widget, WidgetType
from kiket_worker.definitions.dashboards.query_config import MOST_COLUMNS, read_config
from kiket_worker.definitions.dashboards.reading import Reading, did_you_mean, kind_of, quoted
from kiket_worker.definitions.yaml_document import Located

MODEL_VERSION = "1.0"
MOST_WIDGETS = 200
MOST_ALERTS = 100
MOST_ROLES = 50
# The keys of `visualization` and `options` whose values name columns. All others are the platform's to understand.
COLUMN_KEYS = ("x", "y", "series", "group_by", "category", "stage", "value", "size", "color_by", "label_by", "columns")
# Under which of its keys an entry of a list, such as a column of a table, names its column.
ENTRY_KEYS = ("column", "field", "key")

_FILE_KEYS = ("model_version", "dashboard")
_DASHBOARD_KEYS = (
    *("id", "name", "description", "widgets", "alerts"),
    *("version", "layout", "refresh_interval", "tags"),
)
_WIDGET_KEYS = (
    *("id", "type", "title", "description", "query", "query_config", "visualization", "options"),
    *("text", "position", "format", "thresholds"),
)
_ALERT_KEYS = (
    *("query", "query_config", "condition", "notify_roles"),
    *("id", "name", "description", "message", "severity", "channels"),
)


def read_dashboard(reading: Reading, document: Located) -> Dashboard | None:
    """The dashboard of a file, None where there is nothing to go on with."""
    stated = read_file(reading, document, "dashboard", _FILE_KEYS, _DASHBOARD_KEYS)
    if stated is None:
        return None
    what = "the dashboard"
    identity = reading.identity(stated, "id", what)
    reading.text(stated, "name", what, required=True)
    reading.text(stated, "description", what)
    widgets = stated.get("widgets")
    if widgets is None or widgets.content is None:
        reading.add(rules.SHAPE, stated.line, "the dashboard has no 'widgets'", "add `widgets: [..]`")
    return Dashboard(
        file=reading.file,
        id=identity or "",
        widgets=tuple(_widgets(reading, stated)),
        alerts=tuple(_alerts(reading, stated)),
        line=stated.line_of("id"),
    )


def read_file(
    reading: Reading, document: Located, key: str, file_keys: tuple[str, ...], keys: tuple[str, ...]
) -> Located | None:
    """What a file has under its one key, beside the version."""
    if not reading.mapping(document, document.line, "the file", file_keys):
        return None
    version = document.get("model_version")
    if version is None or version.content != MODEL_VERSION:
        said = "no 'model_version'" if version is None else f"a 'model_version' that is not \"{MODEL_VERSION}\""
        reading.add(
            rules.VERSION,
            document.line_of("model_version"),
            f"the file has {said}",
            f'write `model_version: "{MODEL_VERSION}"`, with the quotes',
        )
    stated = document.get(key)
    if not reading.mapping(stated, document.line_of(key), repr(key), keys):
        return None
    return stated


def _widgets(reading: Reading, stated: Located) -> Iterator[Widget]:
    seen: dict[str, int] = {}
    for item in reading.items(stated.get("widgets"), stated.line_of("widgets"), "'widgets'", MOST_WIDGETS):
        identity = item.get("id")
        what = "a widget"
        if identity is not None and isinstance(identity.content, str):
            what = f"widget {quoted(identity.content)}"
        if not reading.mapping(item, item.line, what, _WIDGET_KEYS):
            continue
        name = reading.identity(item, "id", what)
        if name is not None and name in seen:
            reading.add(
                rules.WIDGET_ID,
                item.line_of("id"),
                f"{what} has the id of the widget in line {seen[name]}",
                "give one of them another id",
            )
        elif name is not None:
            seen[name] = item.line_of("id")
        for key in ("title", "description"):
            reading.text(item, key, what)
        kind = _widget_type(reading, item, what)
        shown = tuple(_shown(reading, item, what))
        source = None if kind == WidgetType.TEXT else _source(reading, item, what)
        if kind == WidgetType.TEXT and (item.get("query") or item.get("query_config")):
            reading.add(rules.SHAPE, item.line, f"{what} is a text, which has no query", "take its query away")
        yield Widget(name or "", source, shown, item.line)


def _widget_type(reading: Reading, item: Located, what: str) -> str | None:
    kind = reading.text(item, "type", what, required=True)
    known = [choice.value for choice in WidgetType]
    if kind is not None and kind not in known:
        reading.add(
            rules.WIDGET_TYPE,
            item.line_of("type"),
            f"{what} is of type {quoted(kind)}, which is not known{did_you_mean(kind, known)}",
            f"known are {', '.join(known)}",
        )
    return kind


def _shown(reading: Reading, item: Located, what: str) -> Iterator[Shown]:
    for part in ("visualization", "options"):
        settings = item.get(part)
        if settings is None or settings.content is None:
            continue
        if not reading.mapping(settings, item.line_of(part), f"{part!r} of {what}"):
            continue
        for key in COLUMN_KEYS:
            stated = settings.get(key)
            if stated is not None and stated.content is not None:
                named = f"{part}.{key}"
                for column, line in _columns(reading, stated, settings.line_of(key), f"{named!r} of {what}"):
                    yield Shown(named, column, line)


def _columns(reading: Reading, stated: Located, line: int, named: str) -> Iterator[tuple[str, int]]:
    """The names of columns in a text, a mapping that has one, or a list of these."""
    entries = reading.items(stated, line, named, MOST_COLUMNS) if isinstance(stated.content, list) else (stated,)
    for entry in entries:
        at = entry.line if entry is not stated else line
        value: Located | None = entry
        if isinstance(entry.content, dict):
            key = next((key for key in ENTRY_KEYS if key in entry.content), None)
            if key is None:
                reading.add(rules.SHAPE, at, f"an entry of {named} names no column", "name it under `column`")
                continue
            value, at = entry.get(key), entry.line_of(key)
        column = reading.column(value, at, named)
        if column is not None:
            yield column, at


def _source(reading: Reading, item: Located, what: str) -> Source | None:
    query, config = item.get("query"), item.get("query_config")
    line = item.line_of("query") if query is not None else item.line_of("query_config")
    if query is not None and isinstance(query.content, dict):
        reading.add(
            rules.UNCHECKED,
            line,
            f"{what} has a query of the platform's own, which is not checked here",
            "for an analytics model, write `query_config`",
        )
        return None
    name = None
    if query is not None and query.content is not None:
        name = reading.column(query, line, f"'query' of {what}")
        if name is None:
            return None
    if config is None or config.content is None:
        if name is None:
            reading.add(rules.SHAPE, item.line, f"{what} has no query", "add `query` or `query_config`")
            return None
        return Source(name, None, line)
    at = item.line_of("query_config")
    read = read_config(reading, config, at, what, name)
    return Source(name, read, line) if read is not None else None


def _alerts(reading: Reading, stated: Located) -> Iterator[Alert]:
    items = reading.items(stated.get("alerts"), stated.line_of("alerts"), "'alerts'", MOST_ALERTS)
    for number, item in enumerate(items, start=1):
        what = f"alert {number}"
        if not reading.mapping(item, item.line, what, _ALERT_KEYS):
            continue
        condition = item.get("condition")
        if condition is not None and isinstance(condition.content, dict):
            reading.add(
                rules.UNCHECKED,
                item.line_of("condition"),
                f"{what} has a condition of the platform's own, which is not checked here",
                "for an analytics model, write the condition as a text",
            )
            continue
        for key in ("name", "description", "message"):
            reading.text(item, key, what)
        _check_roles(reading, item, what)
        text = reading.text(item, "condition", what, required=True)
        yield Alert(number, _source(reading, item, what), text, item.line, item.line_of("condition"))


def _check_roles(reading: Reading, item: Located, what: str) -> None:
    stated, line = item.get("notify_roles"), item.line_of("notify_roles")
    if stated is None or stated.content is None or stated.content == []:
        reading.add(rules.ROLES, line, f"{what} notifies no role", "name at least one under `notify_roles`")
        return
    for role in reading.items(stated, line, f"'notify_roles' of {what}", MOST_ROLES):
        if not isinstance(role.content, str) or not role.content.strip():
            named = "an empty text" if isinstance(role.content, str) else kind_of(role)
            reading.add(rules.ROLES, role.line, f"{what} notifies {named}, which is no role", "write a role's name")
        else:
            reading.as_identity(role.content, role.line, f"a role of {what}")
