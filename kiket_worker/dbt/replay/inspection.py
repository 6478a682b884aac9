"""Watching the Jinja of a project while dbt renders it for a probe: whether it only prints the tenant, or looks at it.

A template that only prints what names the tenant, or the time, gives the same text for every tenant but for what is
printed. One that compares it, cuts it up or counts its letters may do anything for a tenant that was never recorded. As
a probe's names are found by a search wherever they have got to, each operation of Jinja is asked for its operands.

dbt's own macros are not watched: their names of relations are handled the same for every tenant. What they are told of
time is.
"""

import os
import sys
from collections.abc import Callable, ItemsView, Iterable, KeysView, ValuesView
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import cache, wraps
from itertools import chain
from types import GeneratorType
from typing import Any, cast

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame

# Their result has what they were given in it, whole, and nothing depends on it.
_PRINTING_FILTERS = frozenset(
    [
        "trim",
        "string",
        "safe",
        "escape",
        "e",
        "indent",
        "join",
        "tojson",
        "default",
        "d",
        "as_text",
        "as_native",
        "as_bool",
        "as_number",
    ]
)
# Of a list, whose items may name the tenant: its shape does not.
_SHAPE_FILTERS = frozenset(["list", "length", "count", "first", "last", "items", "map", "pprint"])
# A tenant's id is always a positive number, its slug a text with letters.
_TYPE_TESTS = frozenset(
    [
        "defined",
        "undefined",
        "none",
        "string",
        "number",
        "integer",
        "float",
        "mapping",
        "iterable",
        "sequence",
        "boolean",
        "callable",
    ]
)
# What may be told the tenant: it prints, raises, or asks the database, whose answer is recorded.
_TOLD = frozenset(
    [
        "_return",
        "append",
        "create",
        "create_from",
        "debug",
        "dict",
        "env_var",
        "extend",
        "insert",
        "isoformat",
        "join",
        "load_result",
        "log",
        "looked_through",
        "namespace",
        "Namespace",
        "print",
        "raise_compiler_error",
        "raise_database_error",
        "raise_not_implemented",
        "render",
        "run_query",
        "set_sql_header",
        "statement",
        "store_raw_result",
        "store_result",
        "tojson",
        "update",
        "warn",
        "write",
    ]
)
# What goes through a text letter by letter, where it is given one instead of a list.
_SPREADING = frozenset({"join", "extend", "update"})
# What may be asked of a list or mapping whose items name the tenant.
_OF_CONTAINERS = frozenset(["append", "copy", "extend", "insert", "items", "keys", "setdefault", "update", "values"])
# The same of the time.
_TOLD_TIME = frozenset(["_return", "append", "dict", "isoformat", "log", "looked_through", "namespace", "print"])
_CONFIGURED = frozenset(
    ["ParseConfigObject", "ParseRefResolver", "ParseVar", "RuntimeConfigObject", "RuntimeRefResolver", "RuntimeVar"]
)
_INTERNAL_PACKAGES = frozenset({"dbt", "dbt_postgres"})
# dbt's own macros that count days from a time that they are given.
_CALENDAR_MACROS = frozenset(
    [
        "convert_datetime",
        "date_spine",
        "dates_in_range",
        "default__get_intervals_between",
        "generate_series",
        "get_intervals_between",
        "partition_range",
        "py_current_timestring",
    ]
)
# The variables that dbt gets from a worker, and that are the same for all runs or name the tenant.
_VARIABLES = frozenset(
    [
        "DBT_DATABASE",
        "DBT_HOST",
        "DBT_LOG_LEVEL_FILE",
        "DBT_ORGANIZATION_SCHEMA",
        "DBT_PARTIAL_PARSE",
        "DBT_PORT",
        "DBT_SEND_ANONYMOUS_USAGE_STATS",
        "DBT_THREADS",
        "DBT_USER",
        "DBT_USE_COLORS",
        "LANG",
        "TZ",
    ]
)
# What is said to be the file of a template that is in none of its own.
CONFIGURATION = "the project's configuration"
_DEPTH = 6
_WIDTH = 2000


@dataclass(frozen=True)
class Inspection:
    """Something that a template does with the tenant or the time and that is not printing."""

    what: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.what}"


class Watch:
    """What was inspected so far of a probe with these names.

    `schema` is that one of the texts of which it is known with what it is equal for every tenant, if there is one.
    """

    def __init__(self, *, texts: Iterable[str], number: int, schema: str | None) -> None:
        self.found: set[Inspection] = set()
        self.is_paused = False
        self._texts = list(texts)
        self._number = number
        self._schema = schema

    def add_text(self, text: str) -> None:
        """Another text that differs between runs: its identifier, or its time in full."""
        self._texts.append(text)

    def names_tenant(self, value: object, depth: int = _DEPTH) -> bool:
        """Whether a value names the tenant, or has something in it that does."""
        if isinstance(value, str):
            return any(text in value for text in self._texts)
        if isinstance(value, int | float | Decimal):
            return not isinstance(value, bool) and value == self._number
        if isinstance(value, jinja2.runtime.Context):
            return False
        if isinstance(value, GeneratorType):  # What is left of it cannot be looked at without using it up.
            return True
        if isinstance(value, dict | list | tuple | set | frozenset | KeysView | ValuesView | ItemsView):
            # Of what is too deep or too long to be looked through, it is not said that it does not.
            return (
                depth == 0
                or len(value) > _WIDTH
                or any(
                    self.names_tenant(item, depth - 1)
                    for item in (chain.from_iterable(value.items()) if isinstance(value, dict) else value)
                )
            )
        # A relation prints its schema.
        return type(value).__name__.endswith("Relation") and self.names_tenant(str(value))

    def names_scalar(self, value: object) -> bool:
        """Whether a value itself names the tenant, or tells the time; relations and lists do not by themselves."""
        return isinstance(value, date) or (isinstance(value, str | int | float | Decimal) and self.names_tenant(value))

    def equals_for_all(self, left: object, right: object) -> bool:
        """Whether two values, of which one names the tenant, are equal for every tenant, or different for every one."""
        if self._schema is None or isinstance(left, date) or isinstance(right, date):
            return False
        if str(left) == str(right):
            return True
        if self.names_tenant(left) and self.names_tenant(right):
            return False
        named, other = (left, right) if self.names_tenant(left) else (right, left)
        # No schema of a tenant is called otherwise, as the shared one is.
        return str(named) == self._schema and not str(other).startswith("analytics_org_")

    def note(self, what: str) -> None:
        """Note an inspection by the template that is being rendered just now."""
        if self.is_paused:
            return
        file, line = _where()
        self.found.add(Inspection(what, file, line))


def install(watch: Watch) -> None:
    """Have dbt render every template of the project, its packages and its configuration under watch.

    But for the profile, which is the worker's own, and says only where and as whom dbt connects.
    """
    from dbt.config.renderer import ProfileRenderer  # noqa: PLC0415  # only where dbt is recorded
    from dbt_common.clients import jinja as dbt_jinja  # noqa: PLC0415

    original = dbt_jinja.get_environment

    def get_environment(
        node: Any = None,
        capture_macros: bool = False,  # noqa: FBT001, FBT002  # as dbt has it
        native: bool = False,  # noqa: FBT001, FBT002
    ) -> jinja2.Environment:
        environment = original(node, capture_macros, native=native)
        if getattr(node, "package_name", None) in _INTERNAL_PACKAGES:
            return environment
        return _watched(environment, watch, getattr(node, "original_file_path", None) or CONFIGURATION)

    dbt_jinja.get_environment = get_environment
    render_profile = ProfileRenderer.render_value

    def render_value(self: Any, value: Any, keypath: Any = None) -> Any:
        watch.is_paused = True
        try:
            return render_profile(self, value, keypath)
        finally:
            watch.is_paused = False

    ProfileRenderer.render_value = render_value  # type: ignore[method-assign]


def follow_runs(watch: Watch, shift: timedelta = timedelta(0)) -> None:
    """Let the watch know each run by its identifier and its time, which is shifted."""
    import dbt.tracking  # noqa: PLC0415  # only where dbt is recorded
    from dbt_common.invocation import get_invocation_id  # noqa: PLC0415

    begin = dbt.tracking.User.__init__

    def begin_shifted(self: Any, *arguments: Any, **named: Any) -> None:
        begin(self, *arguments, **named)
        self.run_started_at += shift
        for text in (str(self.run_started_at), self.run_started_at.isoformat(), get_invocation_id()):
            watch.add_text(text)

    dbt.tracking.User.__init__ = begin_shifted  # type: ignore[method-assign]


class _WatchedCode(CodeGenerator):
    """Jinja's own code, but that comparisons, loops and slices ask the environment first."""

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:  # noqa: N802  # Jinja's own
        self.write("environment.compared((")
        self.visit(node.expr, frame)
        for operand in node.ops:
            self.write(f", {operand.op!r}, ")
            self.visit(operand.expr, frame)
        self.write("))")

    def visit_For(self, node: nodes.For, frame: Frame) -> None:  # noqa: N802  # Jinja's own
        node.iter = _looked_through(node.iter)
        super().visit_For(node, frame)

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:  # noqa: N802  # Jinja's own
        if isinstance(node.arg, nodes.Slice):
            node.node = _looked_through(node.node)
            for bound in ("start", "stop", "step"):
                if (value := getattr(node.arg, bound)) is not None:
                    setattr(node.arg, bound, _looked_through(value))
        super().visit_Getitem(node, frame)


def _looked_through(value: nodes.Node) -> nodes.Expr:
    ask = nodes.EnvironmentAttribute("looked_through", lineno=value.lineno)
    return nodes.Call(ask, [cast(nodes.Expr, value)], [], None, None, lineno=value.lineno)


_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "gt": lambda a, b: a > b,
    "gteq": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "lteq": lambda a, b: a <= b,
    "in": lambda a, b: a in b,
    "notin": lambda a, b: a not in b,
}


class _Watching:
    """Mixed into the environment of a template."""

    kiket_watch: Watch
    kiket_file: str
    kiket_trees: dict[str, nodes.Template]

    def parse(self, source: str, name: str | None = None, filename: str | None = None) -> nodes.Template:
        """Once for all states: dbt reads the same macros in each, and only looks through the trees that it gets here.

        Jinja itself, which changes a tree as it compiles it, has one of its own.
        """
        tree = self.kiket_trees.get(source)
        if tree is None:
            tree = self.kiket_trees[source] = super().parse(source, name, filename)  # type: ignore[misc]
        return tree

    def compared(self, operands: tuple[Any, ...]) -> Any:
        result: Any = True
        left = operands[0]
        for operator, right in zip(operands[1::2], operands[2::2], strict=True):
            is_told = self._is_told(left) or self._is_told(right)
            if is_told and not (operator in {"eq", "ne"} and self.kiket_watch.equals_for_all(left, right)):
                self.kiket_watch.note("compares what differs between tenants, or the time")
            result = _COMPARE[operator](left, right)
            if not result:
                return result
            left = right
        return result

    def _is_told(self, value: object) -> bool:
        return self.kiket_watch.names_scalar(value) or self.kiket_watch.names_tenant(value)

    def looked_through(self, value: Any) -> Any:
        if self.kiket_watch.names_scalar(value):
            self.kiket_watch.note("goes through the letters of what differs between tenants")
        return value

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        watch = self.kiket_watch
        joins = operator == "+" and isinstance(left, str) and isinstance(right, str)
        if not joins and (watch.names_scalar(left) or watch.names_scalar(right)):
            watch.note(f"computes with what differs between tenants, or the time ({operator})")
        return super().call_binop(context, operator, left, right)  # type: ignore[misc]  # mixed into an environment

    def call_unop(self, context: Any, operator: str, value: Any) -> Any:
        if self.kiket_watch.names_scalar(value):
            self.kiket_watch.note("computes with what differs between tenants, or the time")
        return super().call_unop(context, operator, value)  # type: ignore[misc]

    def getattr(self, value: Any, name: str) -> Any:
        self._looks_into(value, name)
        return super().getattr(value, name)  # type: ignore[misc]

    def getitem(self, value: Any, name: Any) -> Any:
        self._looks_into(value, name)
        return super().getitem(value, name)  # type: ignore[misc]

    def _looks_into(self, value: Any, name: Any) -> None:
        watch = self.kiket_watch
        if isinstance(value, date):
            if name != "isoformat":
                watch.note(f"looks into the time (.{name})")
        elif watch.names_scalar(value):
            watch.note(f"looks into what differs between tenants (.{name})")
        elif watch.names_scalar(name) or (isinstance(value, dict) and any(map(watch.names_scalar, value))):
            watch.note("looks up what differs between tenants")
        elif (name == "response" and isinstance(value, dict) and "table" in value) or type(value).__name__.endswith(
            "AdapterResponse"
        ):
            watch.note("looks at what a statement says at its end, as how many rows it wrote")
        elif isinstance(value, dict) and name in {"datetime", "pytz"} and {"datetime", "pytz", "re"} <= value.keys():
            watch.note(f"asks for the time (modules.{name})")

    def call(self, context: Any, function: Any, *arguments: Any, **named: Any) -> Any:
        watch = self.kiket_watch
        variable = str(arguments[0]) if arguments and _name_of(function) == "env_var" else None
        if variable is not None and variable in os.environ and variable not in _VARIABLES:
            watch.note(f"reads the variable {variable} of the environment, which differs between runs")
        given = (*arguments, *named.values())
        told = [value for value in given if watch.names_scalar(value) or _holds_names(watch, value)]
        if told and not _may_be_told(function, told):
            watch.note(f"gives what differs between tenants, or the time, to {_name_of(function)}")
        if _name_of(function) in _SPREADING and any(map(watch.names_scalar, given)):
            watch.note(f"goes through the letters of what differs between tenants ({_name_of(function)})")
        owner = getattr(function, "__self__", None)
        is_container = isinstance(owner, list | tuple | set | dict) and _name_of(function) not in _OF_CONTAINERS
        if is_container and watch.names_tenant(list(owner or ())):  # Of a mapping, its keys.
            watch.note(f"looks for something among what differs between tenants ({_name_of(function)})")
        macro = getattr(function, "macro", None)
        if macro is not None and macro.package_name in _INTERNAL_PACKAGES and macro.name in _CALENDAR_MACROS:
            watch.note(f"counts days by {macro.name}")
        result = super().call(context, function, *arguments, **named)  # type: ignore[misc]
        parts = result if isinstance(result, tuple) else (result,)
        if any(type(part).__name__.endswith("AdapterResponse") for part in parts):
            watch.note("looks at what a statement says at its end, as how many rows it wrote")
        return result


def _holds_names(watch: Watch, value: object) -> bool:
    """Whether a list or mapping, which is no node of dbt's graph, has what differs between tenants among its items."""
    if isinstance(value, dict):
        return any(map(watch.names_scalar, value)) or any(map(watch.names_scalar, value.values()))
    return isinstance(value, list | tuple | set | frozenset) and any(map(watch.names_scalar, value))


def _may_be_told(function: Any, told: list[Any]) -> bool:
    name = _name_of(function)
    if macro := getattr(function, "macro", None):  # One of dbt's macros, which is watched itself unless it is internal.
        internal = macro.package_name in _INTERNAL_PACKAGES
        return not (internal and any(isinstance(value, date) for value in told))
    if type(function).__name__ == "Macro":
        return True
    if any(isinstance(value, date) for value in told):
        return name in _TOLD_TIME
    owner = type(getattr(function, "__self__", None)).__name__
    return name in _TOLD or type(function).__name__ in _CONFIGURED or owner.endswith("Adapter") or "Relation" in owner


def _name_of(function: Any) -> str:
    return str(getattr(function, "__name__", None) or getattr(function, "name", None) or type(function).__name__)


def _watched(environment: jinja2.Environment, watch: Watch, file: str) -> jinja2.Environment:
    environment.__class__ = _watching(cast(Any, type(environment)))
    environment.kiket_watch = watch  # type: ignore[attr-defined]  # of the mixed-in class
    environment.kiket_file = file  # type: ignore[attr-defined]
    environment.intercepted_binops = frozenset(["+", "-", "*", "/", "//", "**", "%"])  # type: ignore[attr-defined]
    environment.intercepted_unops = frozenset(["+", "-"])  # type: ignore[attr-defined]
    environment.filters = {name: _asked(watch, name, call) for name, call in environment.filters.items()}
    environment.tests = {
        name: _tested(watch, name, cast(Callable[..., Any], call)) for name, call in environment.tests.items()
    }
    return environment


# dbt makes an environment for each text that it renders, thousands of them.
@cache
def _watching(kind: type[Any]) -> type[jinja2.Environment]:
    code = type("WatchedCode", (_WatchedCode, kind.code_generator_class), {})
    return type(f"Watched{kind.__name__}", (_Watching, kind), {"code_generator_class": code, "kiket_trees": {}})


@cache
def _asked(watch: Watch, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    def asked(*arguments: Any, **named: Any) -> Any:
        values = (*arguments, *named.values())
        if name in {"random", "shuffle"}:
            watch.note("draws at random")
        elif (name == "join" and any(isinstance(value, str) and watch.names_scalar(value) for value in values)) or (
            name == "trim" and len(values) > 1 and watch.names_scalar(values[0])
        ):
            watch.note(f"takes letters of what differs between tenants apart with the filter {name}")
        elif name not in _PRINTING_FILTERS and any(map(watch.names_scalar, values)):
            watch.note(f"works on what differs between tenants, or the time, with the filter {name}")
        elif name not in _PRINTING_FILTERS | _SHAPE_FILTERS and any(map(watch.names_tenant, values)):
            watch.note(f"works on a list of what differs between tenants with the filter {name}")
        elif name == "map" and watch.names_tenant(values) and set(named) != {"attribute"}:
            watch.note("works on a list of what differs between tenants with the filter map")
        return call(*arguments, **named)

    return asked


@cache
def _tested(watch: Watch, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    def tested(*arguments: Any, **named: Any) -> Any:
        is_told = name not in _TYPE_TESTS and any(map(watch.names_scalar, (*arguments, *named.values())))
        is_equality = name in {"eq", "equalto", "==", "ne", "!="}
        if is_told and not (is_equality and watch.equals_for_all(*arguments[:2])):
            watch.note(f"tests what differs between tenants, or the time (is {name})")
        return call(*arguments, **named)

    return tested


def _where() -> tuple[str, int]:
    """The file and line of the template that runs at the moment, by Python's stack."""
    frame = sys._getframe(1)
    while frame is not None:
        template = frame.f_globals.get("__jinja_template__")
        if template is not None and hasattr(template.environment, "kiket_file"):
            return template.environment.kiket_file, template.get_corresponding_lineno(frame.f_lineno)
        frame = frame.f_back  # type: ignore[assignment]
    return "the project", 0
