"""The policy on SQL: a model is one SELECT that computes. Judged on the tree of what dbt has compiled."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import TokenType  # where sqlglot defines it

from kiket_worker.definitions import rules
from kiket_worker.definitions.problem import Rule

MOST_BYTES = 512 * 1024

_WRITES = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Create, exp.Drop, exp.Copy, exp.Command, exp.Into)
_CATALOGS = frozenset(["pg_catalog", "information_schema", "pg_toast"])
# What does something, or reads something that is no table: files, other servers, settings, statements given as text.
_FUNCTIONS = re.compile(
    r"pg_(?!typeof$|size_pretty$|column_size$)\w+|dblink\w*|lo_\w+|loread|lowrite|set_config|txid_\w+"
    r"|(query|table|cursor|schema|database)_to_xml\w*|nextval|setval|currval|lastval|has_\w+_privilege|to_reg\w+"
    r"|current_setting|current_schemas|inet_(client|server)_\w+|xpath_table|crosstab\w*|connectby|ts_stat|ts_rewrite"
    r"|(sh)?obj_description|col_description|format_type|row_security_active|aclexplode|acldefault|makeaclitem"
    r"|binary_upgrade_\w+|brin_\w+|gin_clean_pending_list"
)
_CATALOG_TYPES = re.compile(r"::\s*reg\w+|\breg(class|proc|procedure|oper|operator|type|role|namespace|config)\b", re.I)
_UNICODE_ESCAPES = re.compile(r"(?<!\w)U&[\"']", re.IGNORECASE)


@dataclass(frozen=True)
class Fault:
    """What is wrong in a statement; `word` is by what it is found there, `line` the line of the compiled text."""

    rule: Rule
    message: str
    word: str = ""
    line: int = 1

    @property
    def hint(self) -> str:
        """What helps."""
        return _HINTS.get(self.rule.name, "")


_HINTS = {
    rules.SQL_SELECT.name: "Write one `select …`, or `with … select …`.",
    rules.SQL_CATALOG.name: "Read models and sources only.",
    rules.SQL_TABLE.name: "Write {{ ref('model') }} or {{ source('source', 'table') }}.",
    rules.SQL_FUNCTION.name: "Take the call away.",
    rules.SOURCE_SCHEMA.name: "Write schema: \"{{ var('organization_schema') }}\".",
    rules.TENANCY_FILTER.name: "Add `where {{ tenant_filter('organization_id') }}`, or read a staging model.",
    rules.SQL_SIZE.name: "Split the model into several.",
}


def check_sql(text: str, schemas: Collection[str]) -> list[Fault]:
    """What is wrong with a compiled statement, which may read what lies in these schemas."""
    if len(text.encode()) > MOST_BYTES:
        return [Fault(rules.SQL_SIZE, f"the compiled model has more than {MOST_BYTES} bytes")]
    try:
        tokens = sqlglot.tokenize(text, read="postgres")
        faults = [
            Fault(rules.SQL_SELECT, "the model has a semicolon, which ends a statement", ";", token.line)
            for token in tokens
            if token.token_type is TokenType.SEMICOLON
        ][:1]
        if _UNICODE_ESCAPES.search(text):
            # sqlglot reads an operator and a name where Postgres reads one name, or text, with escapes in it.
            faults.append(Fault(rules.SQL_SYNTAX, "names and texts with Unicode escapes (U&) are not read", "U&"))
        return list(dict.fromkeys([*faults, *_judge(statements_of(text), schemas)]))
    except SqlglotError as fault:
        return [_unreadable(fault)]
    except RecursionError:
        return [Fault(rules.SQL_SIZE, "the SQL is nested too deeply to be read")]


def statements_of(text: str) -> list[exp.Expr]:
    """The trees of a text's statements. Raises `SqlglotError` and `RecursionError`."""
    return [statement for statement in sqlglot.parse(text, read="postgres") if statement is not None]


def check_expression(text: str, schemas: Collection[str]) -> list[Fault]:
    """What is wrong with an expression that dbt puts into a statement of its own, as a condition or a key."""
    try:
        tokens = sqlglot.tokenize(text, read="postgres")
        is_more = any(token.comments or token.token_type is TokenType.SEMICOLON for token in tokens)
        if is_more or _UNICODE_ESCAPES.search(text):
            return [Fault(rules.SQL_SYNTAX, "expressions have no comments, semicolons and Unicode escapes (U&)")]
        (expression,) = statements_of(text)
        if isinstance(expression, (exp.Query, exp.Alias, *_WRITES)):
            return [Fault(rules.SQL_SELECT, f"{text!r} is no expression")]
        return [fault for node in expression.walk() for fault in _judge_node(node, schemas)]
    except (SqlglotError, ValueError):
        return [Fault(rules.SQL_SYNTAX, f"{text!r} is no expression that can be read")]
    except RecursionError:
        return [Fault(rules.SQL_SIZE, "the SQL is nested too deeply to be read")]


def _unreadable(fault: SqlglotError) -> Fault:
    details = getattr(fault, "errors", None) or [{}]
    where = details[0]
    words = where.get("description") or str(fault).partition("\n")[0]
    return Fault(
        rules.SQL_SYNTAX,
        f"the SQL cannot be read at {where['highlight']!r}: {words}" if where.get("highlight") else words,
        str(where.get("highlight") or ""),
        int(where.get("line") or 1),
    )


def _judge(statements: list[exp.Expr], schemas: Collection[str]) -> list[Fault]:
    if not statements:
        return [Fault(rules.SQL_SELECT, "the model has no statement")]
    faults = []
    for statement in statements:
        is_select = isinstance(statement, exp.Query | exp.Values)
        if not is_select:
            faults.append(
                Fault(rules.SQL_SELECT, f"the statement is {statement.key.upper()} and no SELECT", _word(statement))
            )
        faults += [
            fault
            for node in statement.walk()
            for fault in _judge_node(node, schemas)
            if is_select or fault.rule is not rules.SQL_TABLE
        ]
    return faults


def _word(node: exp.Expr) -> str:
    return str(node.this) if isinstance(node, exp.Command) else node.key


def _judge_node(node: exp.Expr, schemas: Collection[str]) -> Iterator[Fault]:
    if isinstance(node, exp.Into):
        yield Fault(rules.SQL_SELECT, "the model selects into a table", "into")
    elif isinstance(node, exp.Lock):
        yield Fault(rules.SQL_SELECT, "the model locks rows", "for")
    elif isinstance(node, _WRITES) and node.parent is not None:
        yield Fault(rules.SQL_SELECT, f"the model writes: {node.key.upper()}", _word(node))
    elif isinstance(node, exp.Table):
        yield from _judge_table(node, schemas)
    elif isinstance(node, exp.Identifier) and '"' in node.name:
        # dbt writes names of columns into statements of its own, and leaves quotation marks in them as they are.
        yield Fault(rules.SQL_SYNTAX, f"the name {node.name!r} has a quotation mark", '"')
    elif isinstance(node, exp.Cast) and (found := _CATALOG_TYPES.search(f"::{node.to.sql('postgres')}")):
        yield Fault(rules.SQL_CATALOG, f"the model casts to {found[0].strip(':')}, which reads the catalog", "reg")
    elif isinstance(node, exp.Dot) and isinstance(node.expression, exp.Func):
        name = node.expression.name or node.expression.sql_name()
        yield Fault(rules.SQL_FUNCTION, f"the model calls {name.lower()}() by the name of a schema", name)
    elif isinstance(node, exp.Func):
        name = (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()
        if _FUNCTIONS.fullmatch(name):
            yield Fault(rules.SQL_FUNCTION, f"the model calls {name}()", name)


def _judge_table(table: exp.Table, schemas: Collection[str]) -> Iterator[Fault]:
    name = table.this
    if not isinstance(name, exp.Identifier):  # A function, which is judged as such.
        if table.db:
            yield Fault(rules.SQL_FUNCTION, f"the model calls a function of the schema {table.db}", table.db)
        return
    schema = _folded(table.args.get("db"))
    if schema.lower() in _CATALOGS:
        yield Fault(rules.SQL_CATALOG, f"the model reads {table.sql('postgres')}", table.name)
    elif schema:
        if schema not in schemas:
            yield Fault(rules.SQL_TABLE, f"the model reads {schema}.{table.name} by its name", table.name)
    elif not _is_common(table, _folded(name)):
        if re.match("pg_", table.name, re.IGNORECASE):
            yield Fault(rules.SQL_CATALOG, f"the model reads {table.sql('postgres')}", table.name)
        else:
            yield Fault(rules.SQL_TABLE, f"the model reads {table.name} by its name", table.name)


def _folded(name: exp.Expr | None) -> str:
    """A name as Postgres looks it up."""
    if not isinstance(name, exp.Identifier):
        return ""
    return str(name.this) if name.args.get("quoted") else str(name.this).lower()


def _is_common(table: exp.Table, name: str) -> bool:
    """Whether a name is that of a common table expression that Postgres sees from there.

    https://www.postgresql.org/docs/current/sql-select.html, WITH: one sees those before it, and with RECURSIVE all.
    """
    inside: exp.Expr | None = None
    came_from: exp.Expr = table
    node = table.parent
    while node is not None:
        listed = node.args.get("with_")
        if isinstance(listed, exp.With):
            sees_all = came_from is not listed or listed.args.get("recursive")
            for common in listed.expressions:
                if common is inside and not sees_all:
                    break
                if _folded(common.args["alias"].this) == name:
                    return True
        inside = node if isinstance(node, exp.CTE) else inside
        came_from, node = node, node.parent
    return False


def line_in_source(fault: Fault, source: str, compiled: str) -> int:
    """The line of the model's own text, from which `compiled` was made, where a fault most probably stands."""
    lines = source.splitlines()
    if fault.word:
        pattern = re.compile(rf"(?<!\w){re.escape(fault.word)}" + (r"" if fault.word == "reg" else r"(?!\w)"), re.I)
        if fault.word == ";":
            pattern = re.compile(r";\s*\S|;")
        for number, line in enumerate(lines, 1):
            if pattern.search(line):
                return number
    compiled_lines = compiled.splitlines()
    wanted = compiled_lines[fault.line - 1].strip() if fault.line <= len(compiled_lines) else ""
    return next((number for number, line in enumerate(lines, 1) if wanted and line.strip() == wanted), 1)
