"""Whether a model over raw tables keeps to its organisation, judged on the tree of what dbt has compiled.

Each SELECT that reads a raw table needs a condition on the rows' owner of its own. The database keeps organisations
apart in any case: this is about a model that is right, and quick, also where one role is shared.
"""

from collections.abc import Collection, Iterable, Iterator

from sqlglot import exp
from sqlglot.errors import SqlglotError

from kiket_worker.definitions import rules
from kiket_worker.definitions.policy.sql import Fault, statements_of

_OWNER = "organization_id"
# dbt puts ephemeral models into those that read them, under such names. They are told of in their own files.
_EPHEMERAL = "__dbt__cte__"
_WITH_ROWS = (exp.Select, exp.SetOperation)


def check_tenancy(text: str, raw_schemas: Collection[str], organization_id: int) -> list[Fault]:
    """The raw tables that the compiled SQL of a model reads without a filter, each once.

    `organization_id` is what `tenant_filter` compares with, whatever the column is called. Of SQL that cannot be read,
    `check_sql` tells.
    """
    schemas = {schema.lower() for schema in raw_schemas}
    lowered = text.lower()
    if not any(schema in lowered for schema in schemas):
        return []
    try:
        unfiltered = dict.fromkeys(
            table.name
            for statement in statements_of(text)
            for select, tables in _raw_tables(statement, schemas)
            if not any(_is_filter(condition, organization_id) for condition in _conditions(select))
            for table in tables
        )
    except (SqlglotError, RecursionError):
        return []
    return [
        Fault(rules.TENANCY_FILTER, f"the model reads the raw table {name} without a filter by organisation", name)
        for name in unfiltered
    ]


def _raw_tables(statement: exp.Expr, schemas: Collection[str]) -> Iterable[tuple[exp.Select, list[exp.Table]]]:
    """The raw tables that a statement reads, by the select that has them in its FROM."""
    # By identity: sqlglot compares and hashes expressions as a whole.
    found: dict[int, tuple[exp.Select, list[exp.Table]]] = {}
    for table in statement.find_all(exp.Table):
        if table.db.lower() in schemas and (select := table.find_ancestor(exp.Select)) and not _is_ephemeral(select):
            found.setdefault(id(select), (select, []))[1].append(table)
    return found.values()


def _is_ephemeral(select: exp.Select) -> bool:
    table = select.find_ancestor(exp.CTE)
    return table is not None and table.alias.startswith(_EPHEMERAL)


def _conditions(select: exp.Select) -> Iterator[exp.Expr]:
    """Those of WHERE and of JOIN; the names of USING are conditions too."""
    if where := select.args.get("where"):
        yield where.this
    for node in select.walk(prune=lambda node: node is not select and isinstance(node, _WITH_ROWS)):
        if isinstance(node, exp.Join):
            yield from (part for part in (node.args.get("on"), *node.args.get("using", ())) if part)


def _is_filter(condition: exp.Expr, organization_id: int) -> bool:
    """Whether a condition, without the selects in it, compares the owner, or something with the organisation's id."""
    if isinstance(condition, exp.Identifier):  # Of `using`.
        return condition.name.lower() == _OWNER
    return any(
        _names_owner(part, organization_id)
        for comparison in condition.walk(prune=_is_select)
        if isinstance(comparison, exp.EQ | exp.In)
        for part in comparison.walk(prune=_is_select)
    )


def _is_select(node: exp.Expr) -> bool:
    return isinstance(node, _WITH_ROWS)


def _names_owner(node: exp.Expr, organization_id: int) -> bool:
    if isinstance(node, exp.Column):
        return node.name.lower() == _OWNER
    return isinstance(node, exp.Literal) and node.name == str(organization_id)
