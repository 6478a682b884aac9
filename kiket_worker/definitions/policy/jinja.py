"""The policy on Jinja: an overlay's templates print, and call what prints.

A list of what is allowed, not of what is forbidden: dbt's context is large, and grows. A name that is dbt's own cannot
be a template's variable either, because Jinja looks into the context for a variable that was not set on the way taken.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jinja2
from dbt_common.clients.jinja import get_environment
from dbt_common.exceptions import DbtRuntimeError
from jinja2 import nodes

from kiket_worker.definitions import rules
from kiket_worker.definitions.policy.config import check_config
from kiket_worker.definitions.policy.core import Known, is_dispatched, macros_of_dbt
from kiket_worker.definitions.problem import Problem

_ALLOWED = frozenset(
    [
        *("ref", "source", "config", "this", "var", "is_incremental", "target", "doc"),
        *("schema", "database", "identifier", "execute", "run_started_at", "invocation_id", "exceptions", "return"),
        # Its attributes below only: others tell the time.
        "model",
        *("log", "tojson", "fromjson", "zip", "set", "dict", "range", "namespace", "cycler", "joiner"),
        *("loop", "caller", "varargs", "kwargs"),
        # Of generic tests.
        *("get_where_subquery", "column_name"),
    ]
)
# What dbt's macros of this name do is the same for every database: text of expressions.
# https://docs.getdbt.com/reference/dbt-jinja-functions/cross-database-macros
_CROSS_DATABASE = frozenset(
    [
        *("any_value", "array_append", "array_concat", "array_construct", "bool_or", "cast", "cast_bool_to_text"),
        *("concat", "current_timestamp", "date", "date_trunc", "dateadd", "datediff", "escape_single_quotes", "except"),
        *("hash", "intersect", "last_day", "length", "listagg", "position", "replace", "right", "safe_cast"),
        *("split_part", "string_literal", "type_bigint", "type_boolean", "type_float", "type_int", "type_numeric"),
        *("type_string", "type_timestamp"),
    ]
)
# Names of dbt's context that no template may take for its own.
_CONTEXT = frozenset(
    [
        *("adapter", "adapter_macro", "api", "builtins", "cloud", "compiled_code", "context", "context_macro_stack"),
        *("dbt", "dbt_metadata_envs", "dbt_postgres", "dbt_version", "defer_relation", "diff_of_two_dicts", "env"),
        *("env_var", "flags", "fromyaml", "function", "graph", "invocation_args_dict", "load_agate_table"),
        *("load_result", "local_md5", "metric", "metrics", "modules", "partial_parse", "post_hooks", "pre_hooks"),
        *("print", "project_name", "relation_exists", "render", "run_query", "selected_resources", "self"),
        *(
            "set_strict",
            "source_node",
            "sql",
            "sql_now",
            "statement",
            "store_raw_result",
            "store_result",
            "submit_python_job",
        ),
        *("thread_id", "toyaml", "try_or_compiler_error", "validation", "write", "zip_strict"),
    ]
)
# What is called and nothing else: each of these objects leads to the adapter, to dbt's context or to its manifest by
# attributes of its own. The attributes that may be asked for all the same are named.
_ONLY_CALLED = _CROSS_DATABASE | frozenset(
    [
        *("ref", "source", "config", "var", "is_incremental", "exceptions", "return", "log", "doc", "tojson"),
        *("fromjson", "zip", "set", "dict", "range", "namespace", "cycler", "joiner", "caller", "get_where_subquery"),
    ]
)
_ATTRIBUTES = {
    "config": {"get", "require"},
    "exceptions": {"raise_compiler_error", "warn"},
    "var": {"has_var"},
}
# What is the same of a model whoever builds it, and whenever.
_OF_MODELS = frozenset(
    [
        *("alias", "columns", "description", "fqn", "identifier", "language", "meta", "name", "original_file_path"),
        *("package_name", "path", "resource_type", "tags", "unique_id"),
    ]
)
# Where to look for what stopped Jinja without a word of the line.
_ODD = re.compile(r"[0-9A-Fa-f_]{1000}|\{%-?\s*materialization")
_DEFINED = {"macro": "dbt_macro__", "docs": "dbt_docs__"}


@dataclass
class Template:
    """What a template says: references with their lines, the macros that it defines, and what it may not do."""

    refs: list[tuple[str, int]] = field(default_factory=list)
    sources: list[tuple[str, str, int]] = field(default_factory=list)
    called: set[str] = field(default_factory=set)
    macros: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def examine(
    file: str, text: str, known: Known, own_macros: Collection[str], *, is_model: bool = False, first_line: int = 1
) -> Template:
    """Look through a template, whose first line is this one of the file. `own_macros` are the overlay's."""
    found = Template()
    try:
        # With dbt's own blocks, so that what dbt would read is what is judged.
        tree = get_environment(None, capture_macros=True).parse(text)
        _Judge(file, found, known, own_macros, first_line - 1).judge(tree, is_model=is_model)
    except jinja2.TemplateSyntaxError as fault:
        line = first_line + fault.lineno - 1
        found.problems.append(rules.JINJA_SYNTAX.problem(file, line, f"Jinja cannot be read: {fault.message}"))
    except RecursionError:
        found.problems.append(rules.PARSE_LIMIT.problem(file, first_line, "Jinja is nested too deeply to be read"))
    except MemoryError:
        raise
    except Exception as fault:  # Of numbers, and of dbt's blocks, that Jinja and dbt expect nobody to write.
        line = first_line + (text.count("\n", 0, odd.start()) if (odd := _ODD.search(text)) else 0)
        found.problems.append(rules.JINJA_SYNTAX.problem(file, line, f"Jinja cannot be read: {_words_of(fault)}"))
    return found


def _words_of(fault: Exception) -> str:
    if isinstance(fault, DbtRuntimeError):
        return str(fault.msg)
    if isinstance(fault, ValueError):
        return "a number has too many digits"
    return "one of dbt's blocks has what dbt does not expect there"


class _Judge:
    def __init__(
        self, file: str, found: Template, known: Known, own_macros: Collection[str], lines_before: int
    ) -> None:
        self._file = file
        self._found = found
        self._known = known
        self._own = own_macros
        self._before = lines_before
        self._stored: set[str] = set()
        # Arguments and variables of loops around where it is looked: bound whichever way is taken.
        self._bound: tuple[str, ...] = ()

    def judge(self, tree: nodes.Template, *, is_model: bool) -> None:
        targets = [
            *(node.target for node in tree.find_all(nodes.Assign)),
            *(node.target for node in tree.find_all(nodes.AssignBlock)),
        ]
        self._stored = {name for target in targets for name in _names(target)}
        for macro in tree.find_all(nodes.Macro):
            self._defines(macro, is_model=is_model)
        for kind in (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends):
            for other in tree.find_all(kind):
                self._forbid(other.lineno, "other templates are not included", "Write a macro.")
        self._visit(tree)

    def _forbid(self, line: int, message: str, hint: str = "") -> None:
        self._found.problems.append(rules.JINJA_FORBIDDEN.problem(self._file, self._before + line, message, hint))

    def _is_dbts(self, name: str) -> bool:
        is_macro = name in macros_of_dbt() and name not in _ALLOWED | _CROSS_DATABASE
        return name in _CONTEXT or is_macro or name in self._known.macros or name == self._known.project

    def _defines(self, node: nodes.Macro, *, is_model: bool) -> None:
        line = self._before + node.lineno
        if node.name.startswith(_DEFINED["docs"]):
            return
        name = node.name.removeprefix(_DEFINED["macro"])
        if name.startswith("materialization_"):
            self._found.problems.append(
                rules.MATERIALIZATION.problem(
                    self._file, line, "a materialisation of one's own is not run", "Use view, table or incremental."
                )
            )
        elif is_model:
            self._forbid(node.lineno, f"the macro {name!r} is defined in a model", "Put it under analytics/dbt/macros.")
        elif (
            name in macros_of_dbt() or name in self._known.macros or is_dispatched(name) or name in _CONTEXT | _ALLOWED
        ):
            self._found.problems.append(
                rules.MACRO_OVERRIDE.problem(
                    self._file,
                    line,
                    f"the macro {name!r} would replace one of dbt's, of the core project, or of another overlay",
                    "Give it another name.",
                )
            )
        self._found.macros.setdefault(name, line)

    def _visit(self, node: nodes.Node) -> None:
        if isinstance(node, nodes.Name):
            self._reads(node)
        elif isinstance(node, nodes.Getattr | nodes.Getitem):
            self._looks_into(node)
        elif isinstance(node, nodes.Call):
            self._visit_call(node)
        elif isinstance(node, nodes.For):
            self._visit_loop(node)
        elif isinstance(node, nodes.With):
            for value in node.values:
                self._visit(value)
            self._visit_bound(node.targets, node.body)
        elif isinstance(node, nodes.Macro | nodes.CallBlock):
            self._visit_block(node)
        else:
            for child in node.iter_child_nodes():
                self._visit(child)

    def _visit_loop(self, node: nodes.For) -> None:
        for outside in (node.iter, *node.else_):
            self._visit(outside)
        self._visit_bound([node.target], [*([node.test] if node.test else ()), *node.body])

    def _visit_block(self, node: nodes.Macro | nodes.CallBlock) -> None:
        for outside in (*node.defaults, *([node.call] if isinstance(node, nodes.CallBlock) else ())):
            self._visit(outside)
        self._visit_bound(node.args, node.body)

    def _visit_bound(self, targets: Iterable[nodes.Node], body: Iterable[nodes.Node]) -> None:
        around = self._bound
        self._bound = (*around, *(name for target in targets for name in _names(target)))
        for child in body:
            self._visit(child)
        self._bound = around

    def _visit_call(self, node: nodes.Call) -> None:
        if isinstance(node.node, nodes.Name):
            self._calls(node, node.node.name)
            self._reads(node.node, is_called=True)
        elif isinstance(node.node, nodes.Getattr | nodes.Getitem):
            self._looks_into(node.node, is_called=True)
        for child in node.iter_child_nodes(exclude=("node",)):
            self._visit(child)
        if not isinstance(node.node, nodes.Name | nodes.Getattr | nodes.Getitem):
            self._visit(node.node)

    def _is_only_called(self, name: str) -> bool:
        return name in _ONLY_CALLED or name in self._own or name in self._known.macros - self._known.private

    def _reads(self, node: nodes.Name, *, is_called: bool = False) -> None:
        name = node.name
        if name in self._bound and node.ctx != "store":
            return
        if node.ctx != "load":
            if self._is_dbts(name):
                self._forbid(node.lineno, f"the name {name!r} is dbt's own", "Call the variable otherwise.")
            return
        self._found.called.add(name)
        if name == "model":
            self._forbid(node.lineno, f"of 'model', there is {', '.join(sorted(_OF_MODELS))}")
            return
        if self._is_only_called(name):
            if not is_called:
                self._forbid(node.lineno, f"{name!r} is called, and not looked into or passed on")
            return
        if name in _ALLOWED:
            return
        if name in self._stored:  # One that is called as dbt's was refused where it is set.
            return
        self._forbid(
            node.lineno,
            f"{name!r} is not among what overlays may use",
            f"See {rules.PAGE} for what there is." if self._is_dbts(name) else f"Nothing here is called {name!r}.",
        )

    def _looks_into(self, node: nodes.Getattr | nodes.Getitem, *, is_called: bool = False) -> None:
        wanted: Any = node.attr if isinstance(node, nodes.Getattr) else None
        if isinstance(node, nodes.Getitem):
            wanted = node.arg.value if isinstance(node.arg, nodes.Const) else None
            self._visit(node.arg)
        if isinstance(wanted, str) and wanted.startswith("_"):
            self._forbid(node.lineno, f"the attribute {wanted!r} is nobody's business")
        owner = node.node.name if isinstance(node.node, nodes.Name) else ""
        if owner in self._bound:
            return
        if owner == "dbt":
            if wanted not in _CROSS_DATABASE or not is_called:
                self._forbid(
                    node.lineno,
                    f"dbt.{wanted or '…'} is not among what overlays may use",
                    "There are dbt's cross-database macros.",
                )
            return
        if (wanted in _ATTRIBUTES.get(owner, ()) and is_called) or (owner == "model" and wanted in _OF_MODELS):
            return
        self._visit(node.node)

    def _calls(self, node: nodes.Call, name: str) -> None:
        line = self._before + node.lineno
        constants = [argument.value if isinstance(argument, nodes.Const) else None for argument in node.args]
        if name in {"ref", "source"} and (odd := {pair.key for pair in node.kwargs} - {"version", "v"}):
            # dbt counts what is given by position, and so finds nothing.
            rule = rules.REF_MISSING if name == "ref" else rules.SOURCE_MISSING
            hint = "Write ref('model')." if name == "ref" else "Write source('source', 'table')."
            message = f"{name}() takes no keyword {min(odd)!r}"
            self._found.problems.append(rule.problem(self._file, line, message, hint))
        if name == "ref" and constants and all(isinstance(value, str) for value in constants[:2]):
            if len(constants) > 1 and constants[0] != self._known.project:
                self._found.problems.append(
                    rules.REF_MISSING.problem(self._file, line, f"there is no package {constants[0]!r}")
                )
            else:
                self._found.refs.append((str(constants[-1]), line))
        elif name == "source" and len(constants) == 2 and all(isinstance(value, str) for value in constants):
            self._found.sources.append((str(constants[0]), str(constants[1]), line))
        elif name == "config":
            self._configures(node, line)

    def _configures(self, node: nodes.Call, line: int) -> None:
        given = [(pair.key, pair.value) for pair in node.kwargs]
        is_open = node.dyn_kwargs is not None or node.dyn_args is not None
        for argument in node.args:
            if isinstance(argument, nodes.Dict):
                keys = [item.key.value if isinstance(item.key, nodes.Const) else None for item in argument.items]
                given += [(str(key), item.value) for key, item in zip(keys, argument.items, strict=True) if key]
                is_open |= None in keys
            else:
                is_open = True
        if is_open:
            self._forbid(node.lineno, "config() is given what only dbt would know", "Write its keywords out.")
        for key, value in given:
            at = self._before + value.lineno
            self._found.problems += check_config(self._file, key, list(_constants(value)), at)


def _names(target: nodes.Node) -> Iterator[str]:
    if isinstance(target, nodes.Name):
        yield target.name
    for name in target.find_all(nodes.Name):
        yield name.name


def _constants(node: nodes.Node) -> Iterator[Any]:
    if isinstance(node, nodes.Const):
        yield node.value
    for child in node.find_all(nodes.Const):
        yield child.value
