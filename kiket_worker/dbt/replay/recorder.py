"""Recording dbt: run as a process of its own, `recorder REQUEST`, which runs real dbt for one probe, state by state.

What it writes: for each state, what dbt sent to the database and what its Jinja was told, node by node, in their order;
what dbt wrote (manifest, run results, log); and which nodes wait for which.

Of dbt it needs four things that are no public interface, each named where it is taken. A dbt that has them no longer
fails here, and the engine falls back to dbt itself.
"""

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dbt.tracking
import psycopg
import psycopg2
import psycopg2.extensions
from dbt.adapters.postgres.impl import PostgresAdapter
from dbt.cli.main import dbtRunner
from dbt.context import base as context_base
from dbt.context import providers
from dbt.task.runnable import GraphRunnableTask
from dbt_common.events.contextvars import get_node_info
from psycopg.rows import DictRow, dict_row

from kiket_worker.dbt.replay import inspection
from kiket_worker.dbt.replay.compiled import MOST_ROWS
from kiket_worker.dbt.replay.holes import with_holes, words
from kiket_worker.ledger.database import statement


class _Recording:
    """What has happened since the state began."""

    def __init__(self, values: dict[str, str], answers: dict[str, list[list[Any]]]) -> None:
        self.events: list[dict[str, Any]] = []
        self.edges: list[tuple[str, str]] = []
        self.unknown: list[tuple[str, str]] = []
        self._values = values
        self._answers = answers

    def clear(self) -> None:
        self.events, self.edges = [], []

    def add(self, **event: Any) -> dict[str, Any]:
        event["node"] = _node()
        self.events.append(event)
        return event

    def given_answer(self, query: str) -> list[tuple[Any, ...]] | None:
        """What a query of this node is to be told instead of what the database says of a probe."""
        rows = self._answers.get(f"{_node()}\n{with_holes(query, self._values)}")
        return None if rows is None else [tuple(row) for row in rows]


def _node() -> str:
    return str((get_node_info() or {}).get("unique_id") or "")


def _record_statements(recording: _Recording) -> None:
    """By psycopg2, through which dbt-postgres speaks to the database."""

    class Cursor(psycopg2.extensions.cursor):  # type: ignore[misc]  # psycopg2 has no types
        event: dict[str, Any] | None = None

        def execute(self, query: Any, values: Any = None) -> Any:
            text = self.mogrify(query, values) if values else query
            text = text.decode() if isinstance(text, bytes) else text
            self.event = recording.add(sql=text, rows=None, columns=None, main=False)
            result = super().execute(query, values)
            self.event["status"] = self.statusmessage
            return result

        def _told(self, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
            assert self.event is not None
            self.event["columns"] = [[column[0], column[1]] for column in self.description or ()]
            self.event["rows"] = [[words(value) for value in row] for row in rows]
            given = recording.given_answer(self.event["sql"])
            if given is not None:
                rows = [self._read(row) for row in given]
                self.event["rows"] = [[words(value) for value in row] for row in rows]
            if len(rows) > MOST_ROWS:
                recording.unknown.append((_node(), f"reads more than {MOST_ROWS} rows"))
            return rows

        def _read(self, written: tuple[Any, ...]) -> tuple[Any, ...]:
            """Values as Postgres writes them, read as psycopg2 reads those of this answer."""
            casts = psycopg2.extensions.string_types
            return tuple(
                casts.get(column[1], psycopg2.STRING)(value, self)
                for column, value in zip(self.description or (), written, strict=True)
            )

        def fetchall(self) -> Any:
            return self._told(super().fetchall())

        def fetchmany(self, size: Any = None) -> Any:
            return self._told(super().fetchmany(size))

        def fetchone(self) -> Any:
            row = super().fetchone()
            told = self._told([] if row is None else [row])
            return told[0] if told else None

        @property
        def description(self) -> Any:
            found = super().description
            if self.event is not None and found and self.event["columns"] is None:
                self.event["columns"] = [[column[0], column[1]] for column in found]
            return found

    class Connection(psycopg2.extensions.connection):  # type: ignore[misc]  # the same
        def cursor(self, *arguments: Any, **named: Any) -> Any:
            return super().cursor(*arguments, cursor_factory=Cursor, **named)

    connect = psycopg2.connect
    psycopg2.connect = lambda **named: connect(connection_factory=Connection, **named)


def _record_relations(recording: _Recording) -> None:
    """What dbt's cache says of relations: all that Jinja may ask of the cache goes by `get_relation`."""
    original = PostgresAdapter.get_relation

    def get_relation(self: Any, database: str, schema: str, identifier: str) -> Any:
        relation = original(self, database, schema, identifier)
        if _node():
            kind = None if relation is None else str(relation.type)
            recording.add(schema=str(schema), relation=str(identifier), kind=kind)
        return relation

    get_relation._is_available_ = True  # type: ignore[attr-defined]  # as dbt marks what Jinja may call
    PostgresAdapter.get_relation = get_relation  # type: ignore[method-assign]


def _record_main_statements(recording: _Recording) -> None:
    """Which statement's answer becomes the node's result, by `store_result('main')`."""
    original = providers.ProviderContext.store_result

    def store_result(self: Any, name: str, response: Any, agate_table: Any = None) -> Any:
        if name == "main":
            for event in reversed(recording.events):
                if event["node"] == _node() and "sql" in event:
                    event["main"] = True
                    break
        return original(self, name, response, agate_table)

    kinds: list[Any] = [providers.ProviderContext]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        kind._context_members_["store_result"] = store_result
    providers.ProviderContext.store_result = store_result  # type: ignore[method-assign]


def _record_graph(recording: _Recording) -> None:
    """Which node waits for which, tests included, by the task's own graph."""
    original = GraphRunnableTask.execute_with_hooks

    def execute_with_hooks(self: Any, *arguments: Any, **named: Any) -> Any:
        recording.edges = [(str(above), str(below)) for above, below in self.graph.graph.edges()]
        return original(self, *arguments, **named)

    GraphRunnableTask.execute_with_hooks = execute_with_hooks  # type: ignore[method-assign]


def _shift_clocks(seconds: int) -> None:
    """Every other clock that Jinja can see."""
    delta = timedelta(seconds=seconds)

    class ShiftedDatetime(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + delta

        @classmethod
        def utcnow(cls) -> Any:
            return datetime.now(UTC).replace(tzinfo=None) + delta

        @classmethod
        def today(cls) -> Any:
            return datetime.now() + delta  # noqa: DTZ005  # as the original

    class ShiftedDate(date):
        @classmethod
        def today(cls) -> Any:
            return (datetime.now() + delta).date()  # noqa: DTZ005  # as the original

    original = context_base.get_context_modules

    def get_context_modules() -> dict[str, Any]:
        modules = dict(original())
        modules["datetime"] = dict(modules["datetime"]) | {"datetime": ShiftedDatetime, "date": ShiftedDate}
        return modules

    context_base.get_context_modules = get_context_modules


def main() -> None:
    """Record what the request asks for."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    values = request["values"]
    recording = _Recording(values, request["answers"])
    watch = inspection.Watch(
        texts=[values["schema"], values["slug"], values["id"], os.environ["DBT_APPLICATION_NAME"]],
        number=int(values["id"]),
        schema=values["schema"],
    )
    inspection.install(watch)
    _record_statements(recording)
    _record_relations(recording)
    _record_main_statements(recording)
    _record_graph(recording)
    inspection.follow_runs(watch, timedelta(seconds=request["clock_shift_seconds"]))
    if request["clock_shift_seconds"]:
        _shift_clocks(request["clock_shift_seconds"])
    target = Path(request["target_path"])
    document: dict[str, Any] = {"states": {}}
    for state, arguments in request["states"]:
        recording.clear()
        with _captured() as output:
            # dbt writes its own command line into its results.
            sys.argv = ["dbt", *request["arguments"], *arguments]
            dbtRunner().invoke(sys.argv[1:])
        results = _read(target / "run_results.json")
        document["states"][state] = {
            "events": recording.events,
            "edges": recording.edges,
            "manifest": _read(target / "manifest.json"),
            "run_results": results,
            "definitions": _definitions(values["schema"]),
            "log": output.getvalue().splitlines(),
            "started_at": str(dbt.tracking.active_user.run_started_at) if dbt.tracking.active_user else None,
        }
        for file in ("run_results.json", "manifest.json"):
            (target / file).unlink(missing_ok=True)
        if results is None or watch.found or recording.unknown:
            break  # There is nothing to prove any more.
    document["inspections"] = sorted(str(found) for found in watch.found)
    document["unknown"] = sorted({f"{node} {what}" for node, what in recording.unknown})
    Path(request["output"]).write_text(json.dumps(document), encoding="utf-8")


def _definitions(schema: str) -> dict[str, str]:
    """What the relations of the probe are defined as, asked as the probe."""
    connection: psycopg.Connection[DictRow] = psycopg.connect(
        host=os.environ["DBT_HOST"],
        port=os.environ["DBT_PORT"],
        dbname=os.environ["DBT_DATABASE"],
        user=os.environ["DBT_USER"],
        application_name=os.environ["DBT_APPLICATION_NAME"],
        row_factory=dict_row,
    )
    with connection:
        query = statement("relations", __package__)
        return {row["name"]: row["definition"] for row in connection.execute(query, {"schema_name": schema})}


@contextlib.contextmanager
def _captured() -> Iterator[io.StringIO]:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        yield output


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


if __name__ == "__main__":
    main()
