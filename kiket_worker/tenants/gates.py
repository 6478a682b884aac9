"""Gate views: raw tables as organisations may see them, from one explicit list.

A gate shows a tenant's database session the rows of that tenant, and of each row only the columns that are listed. Who
the tenant is, `analytics_raw.session_organization_id()` tells from the login. What is not listed cannot be read.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from kiket_worker.errors import InvalidSetting
from kiket_worker.ledger.database import Connection, statement

GATES_SCHEMA = "analytics_raw"

_NAME = r"[a-z_][a-z0-9_]{0,62}"
_STEP = re.compile(rf"({_NAME}) -> ({_NAME})\.({_NAME})\.({_NAME})")


@dataclass(frozen=True)
class Step:
    """From a column of one table to the row of its parent whose `key` it names."""

    column: str
    schema: str
    table: str
    key: str


@dataclass(frozen=True)
class Gate:
    """One entry of the list. `tenant_column` is of the raw table, or of the last parent where there are `steps`.

    `columns` are those that are exposed, or with `withholds` those that are not.
    """

    name: str
    schema: str
    table: str
    steps: tuple[Step, ...]
    tenant_column: str
    columns: tuple[str, ...]
    withholds: bool

    def exposed(self, present: tuple[str, ...]) -> tuple[str, ...]:
        """The columns that can be read, of those that the raw table has at present."""
        if self.withholds:
            return tuple(column for column in present if column not in self.columns)
        return tuple(column for column in self.columns if column in present)

    def columns_read(self, present: tuple[str, ...]) -> dict[tuple[str, str], set[str]]:
        """Which columns of which tables the gate's owner has to read."""
        read: dict[tuple[str, str], set[str]] = {(self.schema, self.table): set(self.exposed(present))}
        here = (self.schema, self.table)
        for step in self.steps:
            read.setdefault(here, set()).add(step.column)
            here = (step.schema, step.table)
            read.setdefault(here, set()).add(step.key)
        read[here].add(self.tenant_column)
        return read

    def query(self, columns: sql.Composable) -> sql.Composed:
        """The select of these columns, of the session's own rows."""
        return sql.SQL("select {columns} from {table} as raw where {condition}").format(
            columns=columns, table=sql.Identifier(self.schema, self.table), condition=self._condition("raw", self.steps)
        )

    def _condition(self, row: str, steps: tuple[Step, ...]) -> sql.Composed:
        if not steps:
            # As a scalar subquery it is asked once for a query and not for each row.
            return sql.SQL("{} = (select {}.session_organization_id())").format(
                sql.Identifier(row, self.tenant_column), sql.Identifier(GATES_SCHEMA)
            )
        step, parent = steps[0], f"parent_{len(self.steps) - len(steps) + 1}"
        return sql.SQL("exists (select from {table} as {alias} where {key} = {column} and {condition})").format(
            table=sql.Identifier(step.schema, step.table),
            alias=sql.Identifier(parent),
            key=sql.Identifier(parent, step.key),
            column=sql.Identifier(row, step.column),
            condition=self._condition(parent, steps[1:]),
        )


def load_gates(path: Path | None) -> tuple[Gate, ...]:
    """The list in a file, or the one that comes with this release. Raises `InvalidSetting`, which names the entry."""
    source = path or files(__package__) / "gates.toml"
    try:
        document = tomllib.loads(source.read_text(encoding="utf-8"))
    except OSError as fault:
        raise InvalidSetting(
            f"the list of gates {source} (KIKET_GATES_FILE) cannot be read: {fault.strerror}"
        ) from fault
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise InvalidSetting(f"the list of gates {source} is no TOML: {fault}") from fault
    try:
        return tuple(_gate(name, entry) for name, entry in document.items())
    except ValueError as fault:
        raise InvalidSetting(f"the list of gates {source}: {fault}") from fault


def _gate(name: str, entry: Any) -> Gate:
    if not re.fullmatch(_NAME, name):
        raise ValueError(f"{name!r} cannot be the name of a gate: small letters, digits and underscores only")
    if not isinstance(entry, Mapping):
        raise ValueError(f"{name} is no table; an entry begins with [{name}]")  # noqa: TRY004  # of the file's content
    if unknown := sorted(entry.keys() - {"table", "tenant", "expose", "withhold"}):
        raise ValueError(f"[{name}] has {', '.join(unknown)}; known are table, tenant, expose and withhold")
    table = re.fullmatch(rf"({_NAME})\.({_NAME})", str(entry.get("table")))
    if not table:
        raise ValueError(f"[{name}] has to name its table as schema.table")
    if ("expose" in entry) == ("withhold" in entry):
        raise ValueError(f"[{name}] has to have either expose or withhold")
    columns = entry["expose"] if "expose" in entry else entry["withhold"]
    if not isinstance(columns, list) or not all(isinstance(column, str) and column for column in columns):
        raise ValueError(f"[{name}] has to list columns by their names")
    if repeated := sorted({column for column in columns if columns.count(column) > 1}):
        raise ValueError(f"[{name}] has {', '.join(repeated)} more than once")
    if "expose" in entry and not columns:
        raise ValueError(f"[{name}] exposes no column")
    steps, tenant_column = _way(name, str(entry.get("tenant")))
    return Gate(name, table[1], table[2], steps, tenant_column, tuple(columns), "withhold" in entry)


def _way(name: str, text: str) -> tuple[tuple[Step, ...], str]:
    *steps, tenant_column = [part.strip() for part in text.split(",")]
    found = [_STEP.fullmatch(step) for step in steps]
    if not re.fullmatch(_NAME, tenant_column) or None in found:
        raise ValueError(
            f'[{name}] has the tenant {text!r}; it is a column, or as "issue_id -> public.issues.id, organization_id"'
        )
    return tuple(Step(*match.groups()) for match in found if match), tenant_column


@dataclass(frozen=True)
class GateFault:
    """How the database differs from the list. `kind` is what doctor reports it as."""

    kind: str
    gate: str
    message: str


def install(connection: Connection, gates: Sequence[Gate]) -> list[str]:
    """Make the gates of the list what it says, in the caller's transaction; give the names of those that are there now.

    A gate whose raw table is absent is left out. Views of tenants stand on gates, so none is dropped while it is in
    use: a column that is no longer exposed becomes null, and a gate that is no longer listed shows nobody anything.
    """
    _name_everything_in_full(connection)
    _grant_columns(connection, gates)
    installed = [gate.name for gate in gates if _install(connection, gate)]
    for view in _views(connection):
        if view not in installed:
            _retire(connection, view)
    return installed


def compare(connection: Connection, gates: Sequence[Gate]) -> Iterator[GateFault]:
    """How the gates in the database differ from the list, in the caller's transaction. Reads catalogs only."""
    _name_everything_in_full(connection)
    recorded = {row["view_name"]: row for row in connection.execute("select * from kiket_analytics.gates").fetchall()}
    live = {row["relname"]: row for row in _live(connection)}
    for gate in gates:
        present = _columns(connection, gate.schema, gate.table)
        if not present:
            yield GateFault("raw_table_absent", gate.name, f"the raw table {gate.schema}.{gate.table} is not there")
            continue
        if not gate.withholds and (absent := sorted(set(gate.columns) - set(present))):
            yield GateFault(
                "raw_column_absent", gate.name, f"{gate.schema}.{gate.table} has no column {', '.join(absent)}"
            )
        view, record = live.get(gate.name), recorded.get(gate.name)
        if view is None or record is None:
            yield GateFault("gate_absent", gate.name, f"the gate {GATES_SCHEMA}.{gate.name} is not installed")
        elif record["source"] != _source(connection, gate, present):
            yield GateFault("gate_outdated", gate.name, f"{GATES_SCHEMA}.{gate.name} is not as the list has it now")
        elif record["definition"] != view["definition"]:
            yield GateFault("gate_changed", gate.name, f"{GATES_SCHEMA}.{gate.name} was changed by somebody")
        elif not view["is_safe"]:
            yield GateFault(
                "gate_changed",
                gate.name,
                f"{GATES_SCHEMA}.{gate.name} has another owner, no security barrier or other rights than it should",
            )
    for name in sorted(live.keys() - {gate.name for gate in gates}):
        if live[name]["is_open"]:
            yield GateFault("gate_not_listed", name, f"{GATES_SCHEMA}.{name} can be read and is not on the list")


def _name_everything_in_full(connection: Connection) -> None:
    """Let Postgres' readings of views not depend on the session's search path, until the transaction ends."""
    connection.execute("select set_config('search_path', 'pg_catalog', true)")


def _check_columns(connection: Connection, gate: Gate, present: tuple[str, ...]) -> None:
    """Raise `InvalidSetting` where what tells the tenant is not there: without it the gate cannot be made."""
    for (schema, table), columns in gate.columns_read(present).items():
        if absent := sorted(columns - set(_columns(connection, schema, table))):
            raise InvalidSetting(
                f"the gate {gate.name} has to read {', '.join(absent)} of {schema}.{table}, which is not there: mend "
                "its `tenant` in the list of gates"
            )


def _grant_columns(connection: Connection, gates: Sequence[Gate]) -> None:
    """Let the owner of the gates read what they need, and nothing that an earlier list needed."""
    for row in connection.execute(statement("tables_read_by_gates", __package__)).fetchall():
        table = sql.Identifier(row["nspname"], row["relname"])
        connection.execute(sql.SQL("revoke all on {} from analytics_gates").format(table))
    for gate in gates:
        present = _columns(connection, gate.schema, gate.table)
        if not present:
            continue
        _check_columns(connection, gate, present)
        for (schema, table_name), columns in gate.columns_read(present).items():
            connection.execute(sql.SQL("grant usage on schema {} to analytics_gates").format(sql.Identifier(schema)))
            connection.execute(
                sql.SQL("grant select ({}) on {} to analytics_gates").format(
                    sql.SQL(", ").join(map(sql.Identifier, sorted(columns))), sql.Identifier(schema, table_name)
                )
            )


def _install(connection: Connection, gate: Gate) -> bool:
    present = _columns(connection, gate.schema, gate.table)
    if not present:
        return False
    view = sql.Identifier(GATES_SCHEMA, gate.name)
    source = _source(connection, gate, present)
    try:
        connection.execute(source.encode())
    except (
        psycopg.errors.UndefinedFunction,
        psycopg.errors.DatatypeMismatch,
        psycopg.errors.InvalidTableDefinition,
    ) as fault:
        raise InvalidSetting(
            f"the gate {gate.name} cannot be made of {gate.schema}.{gate.table}: {fault.diag.message_primary}. Its "
            "tenant has to be a column of numbers, as ids of organisations are, and a column keeps its type"
        ) from fault
    connection.execute(sql.SQL("alter view {} owner to analytics_gates").format(view))
    connection.execute(sql.SQL("revoke all on {} from public").format(view))
    connection.execute(sql.SQL("grant select on {} to analytics_tenants").format(view))
    connection.execute(statement("record_gate", __package__), {"name": gate.name, "source": source})
    return True


def _retire(connection: Connection, view: str) -> None:
    name = sql.Identifier(GATES_SCHEMA, view)
    connection.execute(sql.SQL("revoke all on {} from public, analytics_tenants, analytics_readers").format(name))
    connection.execute("delete from kiket_analytics.gates where view_name = %s", [view])


def _source(connection: Connection, gate: Gate, present: tuple[str, ...]) -> str:
    """The statement that makes the gate. Columns of an earlier gate keep their places, or Postgres would refuse it."""
    exposed = gate.exposed(present)
    columns: list[sql.Composable] = []
    earlier = connection.execute(
        statement("columns_of", __package__), {"schema": GATES_SCHEMA, "table": gate.name}
    ).fetchall()
    for row in earlier:
        name = sql.Identifier(row["attname"])
        if row["attname"] in exposed:
            columns.append(sql.SQL("raw.{}").format(name))
        else:
            columns.append(sql.SQL("null::{} as {}").format(sql.SQL(row["type"]), name))
    named = {row["attname"] for row in earlier}
    columns += [sql.SQL("raw.{}").format(sql.Identifier(column)) for column in exposed if column not in named]
    return (
        sql.SQL("create or replace view {} with (security_barrier) as {}")
        .format(sql.Identifier(GATES_SCHEMA, gate.name), gate.query(sql.SQL(", ").join(columns)))
        .as_string(connection)
    )


def _columns(connection: Connection, schema: str, table: str) -> tuple[str, ...]:
    rows = connection.execute(statement("columns_of", __package__), {"schema": schema, "table": table}).fetchall()
    return tuple(row["attname"] for row in rows)


def _views(connection: Connection) -> list[str]:
    return [row["relname"] for row in _live(connection)]


def _live(connection: Connection) -> list[dict[str, Any]]:
    return connection.execute(statement("live_gates", __package__)).fetchall()
