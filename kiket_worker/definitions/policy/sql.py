"""The policy on SQL: a model is one SELECT that computes. Judged on the tree of what dbt has compiled."""

import re
from collections.abc import Iterator
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
    r"pg_(?!typeof$|size_pretty$|column_size$)\w+|dblink\w*|lo_\w+|loread|lowrite|set_config|copy\w*|txid_\w+"
    r"|(query|table|cursor|schema|database)_to_xml\w*|nextval|setval|currval|lastval|has_\w+_privilege|to_reg\w+"
    r"|current_setting|inet_(client|server)_\w+|xpath_table|crosstab\w*|connectby|ts_stat|ts_rewrite"
)
_CATALOG_TYPES = re.compile(r"::\s*reg\w+|\breg(class|proc|procedure|oper|operator|type|role|namespace|config)\b", re.I)


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
    rules.SQL_FUNCTION.name: "Take the call away.",
    rules.TENANCY_FILTER.name: "Add `where {{ tenant_filter('organization_id') }}`, or read a staging model.",
    rules.SQL_SIZE.name: "Split the model into several.",
}


def check_sql(text: str) -> list[Fault]:
    """What is wrong with the compiled SQL of a model."""
    if len(text.encode()) > MOST_BYTES:
        return [Fault(rules.SQL_SIZE, f"the compiled model has more than {MOST_BYTES} bytes")]
    try:
        tokens = sqlglot.tokenize(text, read="postgres")
        faults = [
            Fault(rules.SQL_SELECT, "the model has a semicolon, which ends a statement", ";", token.line)
            for token in tokens
            if token.token_type is TokenType.SEMICOLON
        ][:1]
        if re.search(r"(?<!\w)U&[\"']", text, re.IGNORECASE):
            # sqlglot reads an operator and a name where Postgres reads one name, or text, with escapes in it.
            faults.append(Fault(rules.SQL_SYNTAX, "names and texts with Unicode escapes (U&) are not read", "U&"))
        statements = [statement for statement in sqlglot.parse(text, read="postgres") if statement is not None]
        return list(dict.fromkeys([*faults, *_judge(statements)]))
    except SqlglotError as fault:
        details = getattr(fault, "errors", None) or [{}]
        where = details[0]
        words = where.get("description") or str(fault).partition("\n")[0]
        return [
            Fault(
                rules.SQL_SYNTAX,
                f"the SQL cannot be read at {where['highlight']!r}: {words}" if where.get("highlight") else words,
                str(where.get("highlight") or ""),
                int(where.get("line") or 1),
            )
        ]
    except RecursionError:
        return [Fault(rules.SQL_SIZE, "the SQL is nested too deeply to be read")]


def _judge(statements: list[exp.Expr]) -> list[Fault]:
    if not statements:
        return [Fault(rules.SQL_SELECT, "the model has no statement")]
    faults = []
    for statement in statements:
        if not isinstance(statement, exp.Query):
            faults.append(
                Fault(rules.SQL_SELECT, f"the statement is {statement.key.upper()} and no SELECT", _word(statement))
            )
        for node in statement.walk():
            faults += _judge_node(node)
    return faults


def _word(node: exp.Expr) -> str:
    return str(node.this) if isinstance(node, exp.Command) else node.key


def _judge_node(node: exp.Expr) -> Iterator[Fault]:
    if isinstance(node, exp.Into):
        yield Fault(rules.SQL_SELECT, "the model selects into a table", "into")
    elif isinstance(node, exp.Lock):
        yield Fault(rules.SQL_SELECT, "the model locks rows", "for")
    elif isinstance(node, _WRITES) and node.parent is not None:
        yield Fault(rules.SQL_SELECT, f"the model writes: {node.key.upper()}", _word(node))
    elif isinstance(node, exp.Table):
        if node.db.lower() in _CATALOGS or (not node.db and re.match("pg_", node.name, re.IGNORECASE)):
            yield Fault(rules.SQL_CATALOG, f"the model reads {node.sql('postgres')}", node.name)
    elif isinstance(node, exp.Cast) and (found := _CATALOG_TYPES.search(f"::{node.to.sql('postgres')}")):
        yield Fault(rules.SQL_CATALOG, f"the model casts to {found[0].strip(':')}, which reads the catalog", "reg")
    elif isinstance(node, exp.Func):
        name = (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()
        if _FUNCTIONS.fullmatch(name):
            yield Fault(rules.SQL_FUNCTION, f"the model calls {name}()", name)


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
