"""The names of models: how they are written, whose they are, and what refers to what."""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping

from kiket_worker.definitions import rules
from kiket_worker.definitions.policy.core import Known
from kiket_worker.definitions.problem import Problem

MOST_MODELS = 200
# dbt's own suffixes, as in `orders__dbt_backup`, take twelve of Postgres' 63.
MOST_CHARACTERS = 51
_NAME = re.compile(r"[a-z][a-z0-9_]*")

# Those that cannot be the name of a table: `pg_get_keywords()` of Postgres 18, of the categories R and T.
KEYWORDS = frozenset(
    [
        *("all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "authorization", "binary"),
        *("both", "case", "cast", "check", "collate", "collation", "column", "concurrently", "constraint", "create"),
        *(
            "cross",
            "current_catalog",
            "current_date",
            "current_role",
            "current_schema",
            "current_time",
            "current_timestamp",
        ),
        *("current_user", "default", "deferrable", "desc", "distinct", "do", "else", "end", "except", "false"),
        *("fetch", "for", "foreign", "freeze", "from", "full", "grant", "group", "having", "ilike", "in", "initially"),
        *("inner", "intersect", "into", "is", "isnull", "join", "lateral", "leading", "left", "like", "limit"),
        *("localtime", "localtimestamp", "natural", "not", "notnull", "null", "offset", "on", "only", "or"),
        *("order", "outer", "overlaps", "placing", "primary", "references", "returning", "right", "select"),
        *("session_user", "similar", "some", "symmetric", "system_user", "table", "tablesample", "then", "to"),
        *("trailing", "true", "union", "unique", "user", "using", "variadic", "verbose", "when", "where", "window"),
        *("with",),
    ]
)

Reference = tuple[str, int]


def check_names(models: Mapping[str, list[str]], known: Known) -> list[Problem]:
    """What is wrong with the names of models, each told at its file."""
    problems: list[Problem] = []
    for name, files in models.items():
        for file in files:
            problems += _check_name(name, file, known)
        for file in files[1:]:
            problems.append(
                rules.MODEL_CLASH.problem(file, 1, f"{files[0]} is called {name!r} too", "Rename one of them.")
            )
    if len(models) > MOST_MODELS:
        message = f"there are {len(models)} models, and {MOST_MODELS} are built"
        problems.append(rules.REPOSITORY_SIZE.problem("", 1, message, "Split the repository, or merge models."))
    return problems


def _check_name(name: str, file: str, known: Known) -> Iterable[Problem]:
    if not _NAME.fullmatch(name):
        yield rules.MODEL_NAME.problem(
            file, 1, f"the name {name!r} needs quotes in SQL", "Use small letters, digits and '_'."
        )
    if len(name) > MOST_CHARACTERS:
        yield rules.MODEL_NAME.problem(
            file, 1, f"the name {name!r} has {len(name)} characters; there is room for {MOST_CHARACTERS}", "Shorten it."
        )
    if name in KEYWORDS:
        yield rules.MODEL_KEYWORD.problem(file, 1, f"{name!r} is a keyword of SQL", "Give the model another name.")
    if name in known.models:
        yield rules.CORE_OVERRIDE.problem(
            file,
            1,
            f"the core project, or another overlay, has a model {name!r}",
            "Give yours another name; it can be built on that one.",
        )


def check_refs(file: str, refs: Iterable[Reference], models: Collection[str], known: Known) -> list[Problem]:
    """References to models that there are not."""
    there = known.models | set(models)
    return [
        rules.REF_MISSING.problem(file, line, f"there is no model {name!r}", _near(name, there))
        for name, line in refs
        if name not in there
    ]


def check_sources(
    file: str, used: Iterable[tuple[str, str, int]], declared: Collection[tuple[str, str]], known: Known
) -> list[Problem]:
    """Sources that nobody declares."""
    there = {f"{source}.{table}" for source, table in known.sources | set(declared)}
    return [
        rules.SOURCE_MISSING.problem(
            file, line, f"there is no source {source}.{table}", _near(f"{source}.{table}", there)
        )
        for source, table, line in used
        if f"{source}.{table}" not in there
    ]


def _near(name: str, there: Collection[str]) -> str:
    near = difflib.get_close_matches(name, sorted(there), 1)
    return f"Did you mean {near[0]!r}?" if near else ""


def check_cycles(references: Mapping[str, Iterable[Reference]], files: Mapping[str, list[str]]) -> list[Problem]:
    """Each circle of models once, told at the reference that closes it."""
    problems: list[Problem] = []
    done: set[str] = set()
    for start in sorted(references):
        if start in done:
            continue
        way: list[str] = [start]
        waiting = [iter(sorted(set(references[start])))]
        while waiting:
            found = next(waiting[-1], None)
            if found is None:
                waiting.pop()
                done.add(way.pop())
                continue
            name, line = found
            if name in way:
                circle = " → ".join([*way[way.index(name) :], name])
                message = f"models refer to each other in a circle: {circle}"
                problems.append(rules.REF_CYCLE.problem(files[way[-1]][0], line, message, "Take one reference out."))
            elif name in references and name not in done:
                way.append(name)
                waiting.append(iter(sorted(set(references[name]))))
    return problems
