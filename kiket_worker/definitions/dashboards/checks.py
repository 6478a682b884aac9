"""Checking the dashboards, alerts and queries of an overlay against the relations that were built of it."""

from collections.abc import Collection, Mapping
from typing import Any

import psycopg

from kiket_worker.dbt.overlay import Kind, Overlay
from kiket_worker.definitions.dashboards import rules
from kiket_worker.definitions.dashboards.condition import InvalidCondition, Names, parse_condition
from kiket_worker.definitions.dashboards.dashboard_file import read_dashboard
from kiket_worker.definitions.dashboards.document import Alert, Dashboard, NamedQuery, QueryConfig, Widget
from kiket_worker.definitions.dashboards.preparing import refusal
from kiket_worker.definitions.dashboards.query import build, sample_arguments
from kiket_worker.definitions.dashboards.query_checks import (
    check_columns,
    check_parameters,
    columns_hint,
    undeclared,
)
from kiket_worker.definitions.dashboards.query_file import read_query
from kiket_worker.definitions.dashboards.reading import Reading, did_you_mean, quoted
from kiket_worker.definitions.dashboards.sources import Columns, Sources
from kiket_worker.definitions.problem import Problem
from kiket_worker.definitions.yaml_document import InvalidYaml, Located, read_yaml


def check_dashboards(
    overlay: Overlay,
    relations: Mapping[str, Mapping[str, str]],
    *,
    unbuilt: Collection[str] = (),
    session: psycopg.Connection[Any] | None = None,
    schema: str,
    schemas: Mapping[str, str] | None = None,
) -> list[Problem]:
    """The problems of all dashboards and query files, in the order of their places.

    `relations` are the models, each with its columns' types as `format_type` writes them. Of the models in `unbuilt`
    nothing is known but that they are there. With a session, the organisation's own, every query that has no problem so
    far is prepared; relations lie in `schema`, or where `schemas` says for a model. Files that are no YAML are passed
    over: whoever reads the repository says so of all of its files at once. Raises `psycopg.OperationalError` where the
    session ends or waits for a lock in vain.
    """
    checks = _Checks(overlay, relations, unbuilt)
    if session is not None:
        checks.prepare_on(session, schema, schemas or {})
    return sorted(problem for reading in checks.run() for problem in reading.problems)


class _Checks:
    def __init__(self, overlay: Overlay, relations: Mapping[str, Mapping[str, str]], unbuilt: Collection[str]) -> None:
        self._readings: list[Reading] = []
        self._dashboards: list[tuple[Reading, Dashboard]] = []
        self._queries: list[tuple[Reading, NamedQuery]] = []
        self._session: psycopg.Connection[Any] | None = None
        self._schema = ""
        self._schemas: Mapping[str, str] = {}
        self._refusals: dict[str, str | None] = {}
        for reading, document in self._documents(overlay, Kind.DASHBOARD):
            if document is not None and (dashboard := read_dashboard(reading, document)) is not None:
                self._dashboards.append((reading, dashboard))
        knows_all_queries = True
        for reading, document in self._documents(overlay, Kind.QUERY):
            query = read_query(reading, document) if document is not None else None
            if query is None:
                knows_all_queries = False
            else:
                self._queries.append((reading, query))
        models: dict[str, Columns | None] = {**relations, **dict.fromkeys(unbuilt)}
        self._sources = Sources(self._unique_queries(), models, knows_all_queries)

    def prepare_on(self, session: psycopg.Connection[Any], schema: str, schemas: Mapping[str, str]) -> None:
        self._session, self._schema, self._schemas = session, schema, schemas

    def run(self) -> list[Reading]:
        self._check_dashboard_ids()
        used: dict[str, set[str]] = {}
        for reading, dashboard in self._dashboards:
            for widget in dashboard.widgets:
                self._check_widget(reading, widget)
            for alert in dashboard.alerts:
                names = self._check_alert(reading, alert)
                if names is not None and alert.source is not None and self._sources.is_named(alert.source):
                    used.setdefault(str(alert.source.name), set()).update(names.parameters)
        for reading, query in self._queries:
            if query.config is not None:
                self._check_query(
                    reading, query.config, query.line, f"query {quoted(query.id)}", used.get(query.id, ())
                )
        return self._readings

    def _documents(self, overlay: Overlay, kind: Kind) -> list[tuple[Reading, Located | None]]:
        """The files of a kind; None for the content of what is no YAML."""
        found: list[tuple[Reading, Located | None]] = []
        for path, text in overlay.of_kind(kind).items():
            reading = Reading(path)
            self._readings.append(reading)
            try:
                found.append((reading, read_yaml(text)))
            except InvalidYaml:
                found.append((reading, None))
        return found

    def _check_dashboard_ids(self) -> None:
        seen: dict[str, Dashboard] = {}
        for reading, dashboard in self._dashboards:
            first = seen.setdefault(dashboard.id, dashboard) if dashboard.id else dashboard
            if first is not dashboard:
                reading.add(
                    rules.DASHBOARD_ID,
                    dashboard.line,
                    f"the dashboard has the id {quoted(dashboard.id)}, as has the one of {first.file}",
                    "give one of them another id",
                )

    def _unique_queries(self) -> dict[str, NamedQuery]:
        seen: dict[str, NamedQuery] = {}
        for reading, query in self._queries:
            first = seen.setdefault(query.id, query)
            if first is not query:
                reading.add(
                    rules.QUERY_ID,
                    query.line,
                    f"the query has the id {quoted(query.id)}, as has the one of {first.file}",
                    "give one of them another id",
                )
        return seen

    def _check_query(
        self, reading: Reading, config: QueryConfig, line: int, what: str, used_elsewhere: Collection[str] = ()
    ) -> None:
        """`line` is that of what the query belongs to."""
        errors = reading.errors
        check_parameters(reading, config, what, used_elsewhere)
        columns = self._sources.columns(reading, config, what)
        if columns is None:
            return
        check_columns(reading, config, what, columns)
        if self._session is not None and config.is_whole and reading.errors == errors and not reading.is_full:
            said = self._refusal(self._session, config, columns)
            if said is not None:
                reading.add(
                    rules.REFUSED,
                    line,
                    f"Postgres refuses the query of {what}: {said}",
                    "mend the query, or the model that it reads",
                )

    def _refusal(self, session: psycopg.Connection[Any], config: QueryConfig, columns: Columns) -> str | None:
        schema = self._schemas.get(config.model, self._schema)
        query = build(config, schema, columns, sample_arguments(config))
        text = query.statement.as_string(session)
        if text not in self._refusals:
            self._refusals[text] = refusal(session, query)
        return self._refusals[text]

    def _check_widget(self, reading: Reading, widget: Widget) -> None:
        if widget.source is None or reading.is_full:
            return
        what = f"widget {quoted(widget.id)}"
        config = self._sources.config(reading, widget.source, what)
        if config is None:
            return
        if not self._sources.is_named(widget.source):
            self._check_query(reading, config, widget.line, what)
        columns = self._sources.models.get(config.model)
        if columns is None or not config.is_whole:
            return
        output = [entry.alias for entry in config.output(tuple(columns))]
        for shown in widget.shown:
            if shown.column in output:
                continue
            if shown.column in columns:
                reading.add(
                    rules.UNSELECTED,
                    shown.line,
                    f"{what} shows {quoted(shown.column)} as {shown.key}, which its query does not select",
                    f"add {shown.column} to the query; it gives {', '.join(output[:20])}",
                )
            else:
                reading.add(
                    rules.COLUMN,
                    shown.line,
                    f"{what} shows {quoted(shown.column)} as {shown.key}, which {config.model} does not have"
                    f"{did_you_mean(shown.column, output)}",
                    columns_hint({*columns, *output}),
                )

    def _check_alert(self, reading: Reading, alert: Alert) -> Names | None:
        if reading.is_full:
            return None
        what = f"alert {alert.number}"
        names: Names | None = None
        if alert.condition is not None:
            try:
                names = parse_condition(alert.condition)
            except InvalidCondition as fault:
                reading.add(
                    rules.CONDITION,
                    alert.condition_line,
                    f"the condition of {what} cannot be read: {fault}",
                    "write it as `issues_completed < 5 and avg(avg_cycle_days) > 3`",
                )
        config = self._sources.config(reading, alert.source, what) if alert.source is not None else None
        if config is None or alert.source is None:
            return names
        if not self._sources.is_named(alert.source):
            used = names.parameters if names is not None else tuple(known.name for known in config.parameters)
            self._check_query(reading, config, alert.line, what, used)
        if names is not None and config.is_whole:
            self._check_names(reading, alert, config, names, what)
        return names

    def _check_names(self, reading: Reading, alert: Alert, config: QueryConfig, names: Names, what: str) -> None:
        declared = [parameter.name for parameter in config.parameters]
        for name in names.parameters:
            if name not in declared:
                undeclared(reading, alert.condition_line, f"the condition of {what} uses", name, declared)
        columns = self._sources.models.get(config.model)
        if columns is None:
            return
        output = [entry.alias for entry in config.output(tuple(columns))]
        for name in names.columns:
            if name not in output:
                reading.add(
                    rules.CONDITION,
                    alert.condition_line,
                    f"the condition of {what} uses {quoted(name)}, which its query does not give"
                    f"{did_you_mean(name, output)}",
                    f"its query gives {', '.join(output[:20])}",
                )
