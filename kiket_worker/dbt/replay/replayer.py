"""Replaying a compiled bundle for one tenant: one session as its role, one transaction, published whole or not at all.

Each node is a savepoint. What dbt's Jinja was told when it was recorded is asked again and has to be told again;
otherwise nothing of the replay stays, and dbt itself runs (`Deoptimised`).
"""

import random
import threading
import time
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow, dict_row, tuple_row

from kiket_worker.dbt.engine import Cancellation
from kiket_worker.dbt.redaction import redacted
from kiket_worker.dbt.replay.compiled import MOST_ROWS, Answer, Compiled, Node, Standard, Step, Trace
from kiket_worker.dbt.replay.holes import STAMP, filled, words
from kiket_worker.dbt.replay.relations import Names, Relations
from kiket_worker.dbt.replay.sql import Action, Command
from kiket_worker.errors import DatabaseInterrupted, KiketError, LeaseLost, QuotaExceeded
from kiket_worker.ledger.database import statement

# How long the swap waits for a reader before it steps back and lets others pass, at first and when it has stepped back
# often. Far below deadlock_timeout, after which Postgres would look for somebody to cancel.
_LOCK_MILLISECONDS = 10
_MOST_LOCK_MILLISECONDS = 40
_STEP_BACK_SECONDS = (0.005, 0.05)

_CONNECT_TIMEOUT_SECONDS = 10
_SAVEPOINT = "savepoint kiket_node"
_LOOK_SECONDS = 1.0
_ROOM = statement("room", __package__)
_INDEX_OF = statement("index_of", __package__)
_COLUMNS = statement("columns", __package__)


class Deoptimised(Exception):
    """The replay cannot go on as dbt would; dbt itself has to. `reason` is one of a few words, for counting."""

    def __init__(self, reason: str, words: str, question: "Question | None" = None) -> None:
        super().__init__(words)
        self.reason = reason
        self.question = question


@dataclass(frozen=True)
class Question:
    """The answers that a node got to what it asked, the last of which was never recorded.

    By the queries, with holes; values as Postgres writes them.
    """

    node: str
    answers: dict[str, list[list[str | None]]]


@dataclass(frozen=True)
class NodeRun:
    """How a node went; times in UTC. `status` is dbt's word, and `message` what dbt would say."""

    node: Node
    status: str
    started_at: datetime
    ended_at: datetime
    message: str | None = None
    failures: int | None = None
    response: dict[str, Any] | None = None
    compiled_code: str | None = None

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.ended_at - self.started_at).total_seconds()

    @property
    def is_failed(self) -> bool:
        """Whether what waits for this node is skipped."""
        return self.status in {"error", "fail", "skipped"}


class Replayer:
    """Replays for one tenant over a session of its own. `values` fill the tenant's holes.

    `known` are the words that an error may name; others may be values of rows.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        compiled: Compiled,
        values: Mapping[str, str],
        *,
        full_refresh: bool,
        target: str,
        cancellation: Cancellation,
        known: Callable[[], Container[str]],
        most_bytes: int | None = None,
    ) -> None:
        self._known = known
        self._most_bytes = most_bytes
        self._looked_at = time.monotonic()
        self._connection = connection
        self._cancellation = cancellation
        self._target = target
        self._cursor = connection.cursor(row_factory=tuple_row)
        self._compiled = compiled
        self._values = dict(values)
        self._schema = values["schema"]
        self._full_refresh = full_refresh
        self._following: Trace | None = None
        self._definitions = {name: filled(text, values) for name, text in compiled.definitions.items()}

    def run(self, *, partial: bool = False) -> list[NodeRun]:
        """Build every node and publish; where one fails, nothing is published, unless `partial` says what dbt does.

        Raises `Deoptimised`, the reason of a cancellation, and `DatabaseInterrupted`.
        """
        runs: list[NodeRun] = []
        cancellation = self._cancellation
        with _stoppable(self._connection, cancellation):
            try:
                self._execute("begin")
                relations = self._look()
                failed: set[str] = set()
                for node in self._compiled.nodes:
                    _check(cancellation)
                    run, relations = self._node(node, relations, failed)
                    runs.append(run)
                    self._check_room()
                    if run.is_failed:
                        failed.add(node.unique_id)
                        if node.resource_type == "operation":
                            raise Deoptimised("hook_failed", f"{node.unique_id}: {run.message}")
                if failed and not partial:
                    self._execute("rollback")
                else:
                    self._publish(relations, cancellation)
            except psycopg.Error as fault:
                if cancellation.reason:
                    raise cancellation.reason from None
                if isinstance(fault, psycopg.OperationalError) or self._connection.closed:
                    raise DatabaseInterrupted(
                        f"Postgres ended the session of {self._schema}: {self._words(fault)}"
                    ) from fault
                raise Deoptimised("unexpected_answer", self._words(fault)) from fault
            finally:
                if not self._connection.closed:
                    with suppress(psycopg.Error):
                        self._connection.rollback()
        return runs

    def _check_room(self) -> None:
        """Raise `QuotaExceeded` where the schema takes more room than it may; nobody else sees it before the commit."""
        if self._most_bytes is None or time.monotonic() - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        row = self._cursor.execute(_ROOM, {"schema": f'"{self._schema}"'}).fetchone()
        if row and row[0] > self._most_bytes:
            raise QuotaExceeded(
                f"the relations of {self._schema} take {row[0] / 2**20:.0f} MiB while they are built, and may take"
                f" {self._most_bytes / 2**20:.0f}: make its models smaller, or raise KIKET_TENANT_QUOTA_MEGABYTES"
            )

    def _look(self) -> Relations:
        with self._connection.cursor(row_factory=dict_row) as cursor:
            return Relations.of_rows(cursor.execute(statement("relations", __package__), {"schema_name": self._schema}))

    def _node(self, node: Node, relations: Relations, failed: set[str]) -> tuple[NodeRun, Relations]:
        started_at = datetime.now(UTC)
        if any(above in failed for above in node.waits_for):
            return NodeRun(node, "skipped", started_at, started_at), relations
        changed = relations.copy()
        self._following = None
        try:
            try:
                run = self._attempt(node, changed, started_at, in_batches=True)
            except psycopg.DatabaseError as fault:
                self._raise_unless_its_own(fault)
                if isinstance(fault, psycopg.errors.QueryCanceled):
                    raise  # It has taken long enough.
                # Once more, statement by statement: Postgres counts lines from the beginning of what it was sent.
                self._execute("rollback to kiket_node")
                changed = relations.copy()
                run = self._attempt(node, changed, started_at, in_batches=False)
        except psycopg.DatabaseError as fault:
            self._raise_unless_its_own(fault)
            self._execute("rollback to kiket_node")
            return self._errored(node, fault, started_at), relations
        return run, changed

    def _errored(self, node: Node, fault: psycopg.DatabaseError, started_at: datetime) -> NodeRun:
        message = f"Database Error in {node.resource_type} {node.name} ({node.file})\n  {self._words(fault)}"
        message += f"\n  compiled code at {self._target}/run/{node.unique_id.split('.')[1]}/{node.file}"
        code = self._following.compiled_code if self._following else None
        names = Names({})
        names.update(self._values)
        names[STAMP] = ""
        return NodeRun(
            node,
            "error",
            started_at,
            datetime.now(UTC),
            message,
            compiled_code=None if code is None else filled(code, names),
        )

    def _words(self, fault: psycopg.Error) -> str:
        """Postgres' words without values of rows, set in as dbt sets them in."""
        return redacted(str(fault).strip().replace("\n", "\n  "), self._known()).rstrip()

    def _raise_unless_its_own(self, fault: psycopg.DatabaseError) -> None:
        """Raise what is no fault of the node's own statement."""
        if self._connection.closed or isinstance(fault, psycopg.errors.AdminShutdown):
            raise fault
        if isinstance(fault, psycopg.errors.QueryCanceled) and self._cancellation.reason:
            raise fault

    def _attempt(self, node: Node, relations: Relations, started_at: datetime, *, in_batches: bool) -> NodeRun:
        names = relations.names()
        names.update(self._values)
        names[STAMP] = datetime.now(UTC).strftime("%H%M%S%f")
        execution = _Execution(self._cursor, self._schema, names, relations, self._cancellation, in_batches=in_batches)
        execution.send(_SAVEPOINT)
        trace = self._standing(node, relations, execution) or self._changing(node, relations, execution)
        execution.end()
        status, failures, message = _judged(node, trace, execution)
        return NodeRun(
            node,
            status,
            started_at,
            datetime.now(UTC),
            message,
            failures,
            execution.response,
            None if trace.compiled_code is None else filled(trace.compiled_code, names),
        )

    def _standing(self, node: Node, relations: Relations, execution: "_Execution") -> Trace | None:
        """Leave a view as it is, or replace a table's rows where they are; None where it has to be made anew."""
        standard, name = node.standard, node.relation
        if standard is None or name is None or not relations.keeps(name, standard, self._definitions[name]):
            return None
        # What is left of a dbt that was interrupted, dbt takes away.
        traces = [
            trace
            for trace in node.traces
            if trace.full_refresh == self._full_refresh and _holds(trace, relations, execution.names, but_for=name)
        ]
        if not traces:
            return None
        trace = execution.answered(node, traces)
        if trace.compiled_code != node.traces[0].compiled_code:  # Another one's rows would be put there.
            return None
        self._following = trace
        if not execution.has_columns(standard, relations.live[name].columns):
            return None
        if standard.rows is None:
            execution.response = _response("CREATE VIEW", -1)
        else:
            execution.replace_rows(standard, name)
        return trace

    def _changing(self, node: Node, relations: Relations, execution: "_Execution") -> Trace:
        """Do what dbt did where the tenant's relations were as they are now."""
        candidates = [trace for trace in node.traces if trace.full_refresh == self._full_refresh]
        traces = [trace for trace in candidates if _holds(trace, relations, execution.names)]
        if not traces and node.standard and node.relation:
            # As dbt leaves it in the end, whatever was there: without what was there, but first.
            if node.relation in relations.kinds and relations.is_live(node.relation):
                relations.drop(node.relation)
            traces = [
                replace(trace, full_refresh=self._full_refresh)
                for trace in node.traces
                if _holds(trace, relations, execution.names)
            ]
        if not traces:
            found = {name: relations.kinds.get(name) for trace in node.traces for name, _ in trace.relations}
            raise Deoptimised("relation_state", f"{node.unique_id}: dbt was never recorded where there is {found}")
        self._following = traces[0]
        trace = self._following = execution.follow(node, traces)
        if node.relation and (kind := self._compiled.kinds.get(node.relation)):
            relations.made(node.relation, kind)
        return trace

    def _publish(self, relations: Relations, cancellation: Cancellation) -> None:
        """Make the swap, if there is one, and commit. Steps back as often as a reader is in the way."""
        swap = sql.SQL("; ").join(relations.swap(self._schema)).as_string(self._connection)
        patience = _LOCK_MILLISECONDS
        while True:
            _check(cancellation)
            try:
                # In one message with its end, so that nobody waits for a way to the worker and back.
                self._execute(f"savepoint kiket_swap; set local lock_timeout = '{patience}ms'; {swap}; commit")
            except psycopg.errors.LockNotAvailable:
                self._execute("rollback to kiket_swap")
                patience = min(patience + 1, _MOST_LOCK_MILLISECONDS)
                time.sleep(random.uniform(*_STEP_BACK_SECONDS))  # noqa: S311  # no secret
            except psycopg.errors.DependentObjectsStillExist as fault:
                raise Deoptimised("dependent_objects", self._words(fault)) from fault
            else:
                return

    def _execute(self, text: str) -> None:
        self._cursor.execute(text.encode())


def _question(trace: Trace, position: int) -> Step | None:
    """What a trace asks at a position among its questions."""
    questions = [step for step in trace.steps if step.answer]
    return questions[position] if position < len(questions) else None


class _Execution:
    """The statements of one node on their way. Those that nothing is read from are sent together, in one message."""

    def __init__(
        self,
        cursor: psycopg.Cursor[TupleRow],
        schema: str,
        names: Names,
        relations: Relations,
        cancellation: Cancellation,
        *,
        in_batches: bool,
    ) -> None:
        self.names = names
        self.response: dict[str, Any] | None = None
        self._answers: dict[str, list[list[str | None]]] = {}
        self.row: TupleRow | None = None
        self._cursor = cursor
        self._schema = schema
        self._relations = relations
        self._cancellation = cancellation
        self._in_batches = in_batches
        self._waiting: list[tuple[str, bool]] = []

    def send(self, text: str, *, is_main: bool = False) -> None:
        """Send one command, now or with the next; a main one ends its message, which a time limit counts for."""
        self._waiting.append((text, is_main))
        if is_main or not self._in_batches:
            self.flush()

    def end(self) -> None:
        """Send what waits, and end the savepoint; nothing, where nothing but its beginning would be sent."""
        if self._waiting != [(_SAVEPOINT, False)]:
            self.send("release savepoint kiket_node")
            self.flush()

    def flush(self) -> None:
        """Send what waits, and read what it says. Raises what psycopg raises of the first that fails."""
        if not self._waiting:
            return
        _check(self._cancellation)
        waiting, self._waiting = self._waiting, []
        # On a line of its own, because a command may end in a comment.
        self._cursor.execute("\n;\n".join(text for text, _ in waiting).encode())
        for position, (_, is_main) in enumerate(waiting):
            if position and not self._cursor.nextset():
                raise Deoptimised("unexpected_answer", "Postgres counts fewer commands than were sent")
            if is_main:
                self.response = _response(self._cursor.statusmessage or "", self._cursor.rowcount)
                self.row = self._cursor.fetchone() if self._cursor.description else None
        if self._cursor.nextset():
            raise Deoptimised("unexpected_answer", "Postgres counts more commands than were sent")

    def answered(self, node: Node, traces: list[Trace]) -> Trace:
        """Ask what dbt asked, and give the trace whose answers are given. Raises `Deoptimised` where none is."""
        position = 0
        while len(questions := [step for step in traces[0].steps if step.answer]) > position:
            traces = self._asked(node, questions[position], [(trace, _question(trace, position)) for trace in traces])
            position += 1
        return traces[0]

    def follow(self, node: Node, traces: list[Trace]) -> Trace:
        """Take the steps of the one trace whose answers are given. Raises `Deoptimised` where none is."""
        position = 0
        while position < len(traces[0].steps):
            step = traces[0].steps[position]
            if step.answer is None:
                self._take(node, step)
            else:
                at = position
                others = [(trace, trace.steps[at] if at < len(trace.steps) else None) for trace in traces]
                traces = self._asked(node, step, others)
            position += 1
        return traces[0]

    def _asked(self, node: Node, step: Step, traces: list[tuple[Trace, Step | None]]) -> list[Trace]:
        """Those traces that have this question here, and this answer to it."""
        answer = self._answer(step)
        known = [trace for trace, same in traces if same and same.text == step.text and self._is(answer, same)]
        if not known:
            question = None if answer.rows is None else Question(node.unique_id, dict(self._answers))
            raise Deoptimised("answer", f"{node.unique_id}: its Jinja is told something that is not known", question)
        return known

    def has_columns(self, standard: Standard, columns: tuple[str, ...]) -> bool:
        """Whether a table would have these columns if it were made anew."""
        if standard.select is None:
            return True
        self.flush()
        self._cursor.execute(filled(standard.select, self.names).encode())
        result = self._cursor.pgresult
        assert result is not None
        found = [
            f"{(result.fname(i) or b'').decode()} {result.ftype(i)} {result.fmod(i)}" for i in range(result.nfields)
        ]
        return found == list(columns)

    def replace_rows(self, standard: Standard, name: str) -> None:
        """Take a table's rows away and put those in that it gets now."""
        assert standard.rows is not None
        self.send(sql.SQL("delete from {}").format(sql.Identifier(self._schema, name)).as_string(self._cursor))
        self.send(filled(standard.rows, self.names), is_main=True)
        self.flush()
        if standard.select is not None:  # dbt makes such a table from a query, and says so.
            assert self.response is not None
            rows = self.response["rows_affected"]
            self.response = _response(f"SELECT {rows}", rows)

    def _take(self, node: Node, step: Step) -> None:
        if step.asks_catalog and self._relations.waiting:
            raise Deoptimised("names_of_relations", f"{node.unique_id} asks what relations there are, and some wait")
        self._refuse_waiting_names(step)
        for position, command in enumerate(step.commands):
            relation = None if command.relation is None else filled(command.relation, self.names)
            name = None if command.name is None else filled(command.name, self.names)
            if (text := self._done_in_truth(node, command, relation, name)) is not None:
                self.send(text, is_main=step.is_main and position == len(step.commands) - 1)

    def _done_in_truth(self, node: Node, command: Command, relation: str | None, name: str | None) -> str | None:
        """What to send for a command; None where it is done in mind only."""
        relations = self._relations
        if command.action is Action.CREATE and relation:
            relations.make_room(relation)
        text = filled(command.text, self.names)
        if command.action is Action.RENAME and relation and name:
            kind = "view" if "view" in text.partition(f'"{relation}"')[0].lower().split() else "table"
            return text if relations.rename(relation, name, kind) else None
        if command.action is Action.DROP and relation:
            return text if relations.drop(relation) else None
        if command.action is Action.EMPTY and relation and relations.is_live(relation):
            target = sql.Identifier(self._schema, relations.called(relation))
            return sql.SQL("delete from {}").format(target).as_string(self._cursor)
        if command.action is Action.ALTER and relation and relations.is_live(relation):
            raise Deoptimised("alters_live_relation", f"{node.unique_id} alters {relation}, which is being read")
        if command.action is Action.INDEX and name and relations.dropped and self._is_of_dropped(name):
            raise Deoptimised("names_of_relations", f"the index {name} is one of a relation that waits to be dropped")
        return text

    def _is_of_dropped(self, index: str) -> bool:
        """Whether an index of this name belongs to what is dropped in mind, and would be gone by now."""
        self.flush()
        parameters = {"schema": f'"{self._schema}"', "index": index, "dropped": list(self._relations.dropped)}
        return self._cursor.execute(_INDEX_OF, parameters).fetchone() is not None

    def _refuse_waiting_names(self, step: Step) -> None:
        waiting = self._relations.waiting
        if not waiting or all(command.action in {Action.RENAME, Action.DROP} for command in step.commands):
            return
        found = [name for name in waiting if name in step.identifiers or (step.unnamed and name in step.unnamed)]
        if found:
            raise Deoptimised(
                "names_of_relations", f"{found[0]} waits to be swapped, and is named otherwise than by ref"
            )
        if not self._relations.is_followed:
            # A function names relations when it is called.
            self.flush()
            query = "select from pg_catalog.pg_proc where pronamespace = %s::regnamespace limit 1"
            if self._cursor.execute(query, [f'"{self._schema}"']).fetchone() is not None:
                raise Deoptimised("names_of_relations", "the schema has functions, and a relation waits to be swapped")
            self._relations.is_followed = True

    def _answer(self, step: Step) -> Answer:
        self._refuse_waiting_names(step)
        self.flush()
        assert step.answer is not None
        if step.columns_of is not None:
            found = self._cursor.execute(_COLUMNS, {"relation": filled(step.columns_of, self.names)}).fetchall()
            self._answers[step.text] = [[words(value) for value in row] for row in found]
            return Answer(step.answer.columns, tuple(tuple(map(words, row)) for row in found))
        query = filled(step.commands[0].text, self.names).encode()
        if step.answer.rows is None:
            self._cursor.execute(query)
            return Answer(self._columns(), None)
        rows = self._rows(step, query)
        return Answer(self._columns(), rows)

    def _rows(self, step: Step, query: bytes) -> tuple[tuple[str | None, ...], ...]:
        """The rows of an answer, one by one: a tenant's may be too many to hold."""
        rows: list[tuple[str | None, ...]] = []
        as_written = self._answers[step.text] = []
        try:
            for row in self._cursor.stream(query):
                if len(rows) >= MOST_ROWS:
                    raise Deoptimised("answer", f"a query of its Jinja gives more than {MOST_ROWS} rows")
                result = self._cursor.pgresult
                assert result is not None
                values = (result.get_value(0, position) for position in range(result.nfields))
                as_written.append([None if value is None else value.decode() for value in values])
                rows.append(tuple(map(words, row)))
        except psycopg.DataError as fault:
            if fault.diag.sqlstate is None:  # Not Postgres' word: a value that Python has no room for.
                raise Deoptimised("answer", f"an answer cannot be read: {type(fault).__name__}") from fault
            raise
        # psycopg tells no columns of a stream without rows.
        if not rows and self._cursor.execute(query).rowcount:
            raise Deoptimised("answer", "a query of its Jinja has two answers in one transaction")
        return tuple(rows)

    def _columns(self) -> tuple[tuple[str, int], ...]:
        return tuple((column.name, column.type_code) for column in self._cursor.description or ())

    def _is(self, answer: Answer, step: Step) -> bool:
        expected = step.answer
        assert expected is not None
        if answer.columns != expected.columns:
            return False
        if expected.rows is None:
            return True
        return answer.rows == tuple(
            tuple(None if value is None else filled(value, self.names) for value in row) for row in expected.rows
        )


def connect(
    address: Mapping[str, str], user: str, password: str, application_name: str
) -> psycopg.Connection[TupleRow]:
    """A session as a tenant. Raises `DatabaseInterrupted`."""
    try:
        return psycopg.connect(
            **address,  # type: ignore[arg-type]  # libpq's words
            user=user,
            password=password,
            application_name=application_name,
            connect_timeout=_CONNECT_TIMEOUT_SECONDS,
            autocommit=True,
            prepare_threshold=None,
        )
    except psycopg.OperationalError as fault:
        raise DatabaseInterrupted(f"role {user} cannot connect: {' '.join(str(fault).split())}") from fault


@contextmanager
def _stoppable(connection: psycopg.Connection[Any], cancellation: Cancellation) -> Iterator[None]:
    """Have a cancellation end the statement that runs at the moment, until the block ends."""

    def cancel() -> None:
        with suppress(psycopg.Error):
            connection.cancel_safe(timeout=_CONNECT_TIMEOUT_SECONDS)

    def stop() -> None:
        # Whoever cancels does not wait for Postgres to hear of it.
        threading.Thread(target=cancel, daemon=True, name="cancel").start()

    with cancellation.reaching(stop, lambda _: None):
        yield


def _check(cancellation: Cancellation) -> None:
    """Raise why the run has to end, if it has to."""
    reason: KiketError | None = cancellation.reason
    if reason is None and cancellation.has_run_out(time.monotonic()):
        reason = LeaseLost("the lease was not renewed in its time")
    if reason is not None:
        raise reason


def _holds(trace: Trace, relations: Relations, names: Names, *, but_for: str | None = None) -> bool:
    return all(relations.kinds.get(filled(name, names)) == kind for name, kind in trace.relations if name != but_for)


def _response(message: str, rows: int) -> dict[str, Any]:
    """As dbt-postgres describes the end of a statement (`PostgresConnectionManager.get_response`)."""
    code = " ".join(part for part in message.split() if not part.isdigit())
    return {"_message": message, "code": code, "rows_affected": rows}


def _judged(node: Node, trace: Trace, execution: _Execution) -> tuple[str, int | None, str | None]:
    """Status, failures and message, as dbt gives them (`TestRunner.build_test_run_result` for tests)."""
    if node.resource_type in {"model", "snapshot"}:
        return "success", None, str((execution.response or {}).get("_message") or "OK")
    if node.resource_type != "test":  # What a seed, a unit test or a hook does is the same for every tenant.
        execution.response = trace.result["adapter_response"]
        return trace.result["status"], trace.result["failures"], trace.result["message"]
    if execution.row is None:
        raise Deoptimised("unexpected_answer", f"{node.unique_id}: a test that says nothing")
    failures, should_warn, should_error = int(execution.row[0]), bool(execution.row[1]), bool(execution.row[2])
    counted = f"Got {failures} result{'' if failures == 1 else 's'}, configured to"
    if node.severity == "error" and should_error:
        return "fail", failures, f"{counted} fail if {node.error_if}"
    if should_warn:
        return "warn", failures, f"{counted} warn if {node.warn_if}"
    return "pass", failures, None
