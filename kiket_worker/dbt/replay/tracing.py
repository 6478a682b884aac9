"""From what dbt did for one node to its trace, and what a view or table is that dbt makes as it always does."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kiket_worker.dbt.replay.compiled import Answer, Standard, Step, Trace
from kiket_worker.dbt.replay.holes import RELATION, SCHEMA, STAMP, hole
from kiket_worker.dbt.replay.sql import (
    Action,
    Command,
    NotReplayable,
    asks_catalog,
    asks_columns_of,
    commands_of,
    identifiers_of,
    rows_of,
    selects_all,
    unnamed,
    with_names_in_texts,
    writes,
)

# What of a node's result is the same whenever its trace is, but for what is counted and timed.
_OF_RESULT = ("status", "message", "failures", "adapter_response", "compiled", "relation_name")
# What dbt does to a table or view once it is made.
_AFTERWARDS = ("create index", "create unique index", "grant ", "comment on ")


def trace_of(
    events: Sequence[Mapping[str, Any]], result: Mapping[str, Any], known: Collection[str], *, full_refresh: bool
) -> Trace:
    """The trace of a node. `known` are the names of relations of the project. Raises `NotReplayable`."""
    tracing = _Tracing(known)
    for event in events:
        if "sql" in event:
            tracing.add_statement(event)
        else:
            tracing.add_relation(event)
    of_result = {name: result[name] for name in _OF_RESULT}
    return Trace(full_refresh, tracing.relations_at_first(), tuple(tracing.steps), result["compiled_code"], of_result)


class _Tracing:
    def __init__(self, known: Collection[str]) -> None:
        self.steps: list[Step] = []
        self._known = known
        self._relations: dict[str, str | None] = {}
        self._touched: set[str] = set()
        self._own: set[str] = set()

    def add_relation(self, event: Mapping[str, Any]) -> None:
        """dbt has looked up a relation in its cache."""
        name = event["relation"]
        if event["schema"] != hole(SCHEMA):
            raise NotReplayable(f"asks for a relation of the schema {event['schema']}")
        if "\x01" in name and hole(STAMP) not in name:
            raise NotReplayable("is named by its tenant")
        # What dbt learns of a relation that the node itself has renamed or dropped follows from what it did.
        if name not in self._touched:
            self._relations.setdefault(name, event["kind"])

    def add_statement(self, event: Mapping[str, Any]) -> None:
        """dbt has sent a statement."""
        is_question = asks(event)
        text = event["sql"]
        if is_question and asks_catalog(text):
            text = with_names_in_texts(text, self._known)
        commands = tuple(command for command in commands_of(text) if command.action is not Action.TRANSACTION)
        if not commands:
            return
        for command in commands:
            self._check(command)
            self._touched |= {name for name in (command.relation, command.name) if name}
        if is_question and (len(commands) > 1 or writes(text)):
            raise NotReplayable("reads the answer to a statement that does more than answer")
        answer = Answer(tuples(event["columns"]), tuples(event["rows"])) if is_question else None
        self.steps.append(
            Step(
                event["sql"],
                commands,
                event["main"],
                unnamed(text),
                identifiers_of(text),
                asks_catalog(text),
                answer,
                asks_columns_of(text) if answer and answer.rows is not None else None,
            )
        )

    def relations_at_first(self) -> tuple[tuple[str, str | None], ...]:
        """The relations that the node has looked up, as they were before it did anything."""
        return tuple(self._relations.items())

    def _check(self, command: Command) -> None:
        name = command.relation or ""
        if command.action is Action.TEMPORARY:
            # Where each node has a session of its own, as dbt's have, a name can be had again.
            if hole(STAMP) not in name:
                raise NotReplayable(f"makes a temporary relation of a fixed name, {name}")
            self._own.add(name)
        elif command.action is Action.OWN and name not in self._own:
            raise NotReplayable(f"changes {name} by a name that is not dbt's")
        elif command.action is Action.ALTER and self._relations.get(name):
            raise NotReplayable(f"alters or refreshes {name} while it is being read")


def asks(event: Mapping[str, Any]) -> bool:
    """Whether dbt's Jinja was told of a statement's result."""
    return not event["main"] and (event["rows"] is not None or event["columns"] is not None)


def tuples(rows: Any) -> Any:
    """Rows of JSON as tuples, which can be compared with those of an answer."""
    return None if rows is None else tuple(tuple(row) for row in rows)


def standard_of(
    relation: str, config: Mapping[str, Any], traces: Sequence[Trace], definitions: Mapping[str, str]
) -> Standard | None:
    """The relation as dbt's own materialisation makes it, if that is how it is made."""
    kind = config.get("materialized")
    has_hooks = config.get("pre-hook") or config.get("post-hook")
    is_one_code = len({trace.compiled_code for trace in traces}) == 1
    if kind not in {"view", "table"} or has_hooks or relation not in definitions or not is_one_code:
        return None
    if not all(_is_standard(trace, relation) for trace in traces):
        return None
    return _view(traces[0]) if kind == "view" else _table(relation, traces[0])


def _is_standard(trace: Trace, relation: str) -> bool:
    """Whether a trace does nothing but make a relation under another name, index and rename it, grant and comment."""
    commands = [(step, command) for step in trace.steps for command in step.commands if step.answer is None]
    if len([command for _, command in commands if command.name == relation and command.relation]) != 1:
        return False
    return all(
        step.is_main
        or command.action in {Action.RENAME, Action.DROP}
        or " ".join(_plain(command.text).lower().split()).startswith(_AFTERWARDS)
        for step, command in commands
    )


def _view(fresh: Trace) -> Standard | None:
    """A view that stays; where it selects whatever columns there are, if these are still the same."""
    main = [step for step in fresh.steps if step.is_main]
    if len(main) != 1 or len(main[0].commands) != 1:
        return None
    code = fresh.compiled_code or ""
    return Standard("view", select=_shape(code) if selects_all(code) else None)


def _shape(code: str) -> str:
    return f"select * from (\n{code}\n) as kiket_shape limit 0"  # noqa: S608  # as dbt has it


def _table(relation: str, fresh: Trace) -> Standard | None:
    """How a table's rows are replaced where they are; None where they cannot be."""
    made = next(command.relation for step in fresh.steps for command in step.commands if command.name == relation)
    main = [step for step in fresh.steps if step.is_main]
    rows = rows_of(main[0].text, str(made), relation) if len(main) == 1 else None
    code = fresh.compiled_code or ""
    # A table that reads itself would find itself empty.
    if rows is None or rows.count(hole(RELATION + relation)) != 1 or f'"{hole(SCHEMA)}"."{relation}"' in code:
        return None
    if len(main[0].commands) > 1:  # Its columns are declared.
        return Standard("table", rows)
    return Standard("table", rows, _shape(code))


def _plain(text: str) -> str:
    """A command without the comment that dbt puts before it."""
    return text.partition("*/")[2] if text.lstrip().startswith("/*") else text
