"""The policy on what dbt has understood: nodes of its manifest, of which it writes parts into statements of its own."""

import csv
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from kiket_worker.definitions import rules
from kiket_worker.definitions.policy.config import MATERIALIZATIONS, SHARED_TAG
from kiket_worker.definitions.policy.sql import Fault, check_expression

_NAME = re.compile(r"[^\W\d]\w*")
_COLUMN = re.compile(r'[^\W\d]\w*|"[^"]+"')
# As `numeric(12, 2)`, `timestamp with time zone` and `text[]`.
_TYPE = re.compile(r"[a-z_][a-z0-9_ ]*(\(\d+( *, *\d+)?\))?( with(out)? time zone)?(\[\])*", re.IGNORECASE)
# https://docs.getdbt.com/reference/resource-configs/severity
_LIMIT = re.compile(r"(=|!=|<>|<|<=|>|>=) *-?\d+|between +-?\d+ +and +-?\d+", re.IGNORECASE)
_INDEX_TYPES = frozenset(["btree", "hash", "gin", "gist", "brin", "spgist"])
_VALUE = re.compile(r"[\w .:+-]*")


def judge_node(node: Any, schema: str, schemas: Collection[str]) -> Iterator[Fault]:
    """What is wrong with a model, seed or test of an overlay that is built in this schema, and reads these."""
    config = node.config
    if node.resource_type == "unit_test":
        yield from _judge_overrides(node.overrides)
        return
    if node.resource_type == "test":
        yield from _judge_test(config, schemas)
        return
    if node.resource_type == "model" and config.materialized not in MATERIALIZATIONS:
        yield Fault(rules.MATERIALIZATION, f"the materialisation {config.materialized!r} is not run", "materialized")
    if config.pre_hook or config.post_hook or getattr(config, "sql_header", None):
        yield Fault(rules.HOOK, f"{node.name} has hooks")
    if node.schema != schema or node.alias != node.name or SHARED_TAG in node.tags or config.grants:
        yield Fault(rules.CONFIG_KEY, f"{node.name} would be built elsewhere, or for others")
    yield from _judge_settings(config, schemas)
    yield from _judge_columns(node)
    for constraint in getattr(node, "constraints", ()):
        yield from _judge_constraint(constraint, schemas)
    for column in node.columns.values():
        for constraint in column.constraints:
            yield from _judge_constraint(constraint, schemas)


def judge_source(source: Any, schemas: Collection[str]) -> Iterator[Fault]:
    """What is wrong with where a source of an overlay says that its table is."""
    if source.schema not in schemas:
        yield Fault(
            rules.SOURCE_SCHEMA, f"the source {source.source_name} lies in the schema {source.schema!r}", "schema"
        )
    if not _NAME.fullmatch(source.identifier):
        yield Fault(rules.SQL_TABLE, f"the table {source.identifier!r} needs quotes in SQL", source.identifier)


def check_header(text: str, config: Any) -> Iterator[Fault]:
    """What is wrong with a seed's first line, whose names dbt puts between quotation marks as they are."""
    is_quoted = config.get("quote_columns") is not False
    try:
        names = next(csv.reader(text.splitlines(), delimiter=config.get("delimiter") or ","), [])
    except (csv.Error, TypeError):
        yield Fault(rules.SEED_HEADER, "the first line of the seed cannot be read")
        return
    for name in names:
        if '"' in name or (not is_quoted and not _NAME.fullmatch(name)):
            yield Fault(rules.SEED_HEADER, f"the column {name!r} has a name that no column can have")


def _texts(value: Any) -> Iterator[str]:
    if value is None or isinstance(value, bool):
        return
    for item in value if isinstance(value, list | tuple) else [value]:
        yield item if isinstance(item, str) else repr(item)


def _each(key: str, value: Any, pattern: re.Pattern[str], what: str) -> Iterator[Fault]:
    for text in _texts(value):
        if not pattern.fullmatch(text):
            yield Fault(rules.CONFIG_KEY, f"{key}: {text!r} is no {what}", key)


def _expressions(key: str, value: Any, schemas: Collection[str]) -> Iterator[Fault]:
    for text in _texts(value):
        for fault in check_expression(text, schemas):
            yield Fault(fault.rule, f"{key}: {fault.message}", key)


def _judge_settings(config: Any, schemas: Collection[str]) -> Iterator[Fault]:
    for key in ("unique_key", "incremental_predicates", "predicates"):
        yield from _expressions(key, config.get(key), schemas)
    for key in ("merge_update_columns", "merge_exclude_columns"):
        yield from _each(key, config.get(key), _COLUMN, "name of a column")
    types = config.get("column_types")
    yield from _each("column_types", list((types or {}).values()), _TYPE, "type")
    indexes = config.get("indexes") or ()
    for index in indexes if isinstance(indexes, Iterable) else ():
        if not isinstance(index, dict) or str(index.get("type", "btree")).lower() not in _INDEX_TYPES:
            yield Fault(rules.CONFIG_KEY, f"indexes: {index!r} is no index", "indexes")
            continue
        yield from _each("indexes", index.get("columns"), _COLUMN, "name of a column")


def _judge_columns(node: Any) -> Iterator[Fault]:
    for column in node.columns.values():
        pattern = _COLUMN if not column.quote else re.compile(r'[^"]+')
        yield from _each("columns", column.name, pattern, "name of a column (`quote: true` allows others)")
        yield from _each("data_type", column.data_type, _TYPE, "type")


def _judge_constraint(constraint: Any, schemas: Collection[str]) -> Iterator[Fault]:
    yield from _each("constraints", constraint.name, _NAME, "name of a constraint")
    yield from _each("constraints", getattr(constraint, "columns", None), _COLUMN, "name of a column")
    yield from _each("constraints", constraint.to_columns, _COLUMN, "name of a column")
    yield from _expressions("constraints", constraint.expression or None, schemas)
    if constraint.to:
        yield Fault(rules.CONFIG_KEY, "constraints: there are no foreign keys between relations", "constraints")


def _judge_test(config: Any, schemas: Collection[str]) -> Iterator[Fault]:
    yield from _expressions("where", config.where, schemas)
    yield from _expressions("fail_calc", config.fail_calc, schemas)
    for key in ("warn_if", "error_if"):
        yield from _each(key, config.get(key), _LIMIT, "comparison, as `> 10`")


def _judge_overrides(overrides: Any) -> Iterator[Fault]:
    """What a unit test says that macros and variables give instead, which is written into its statement."""
    if overrides is None:
        return
    for kind in ("macros", "vars", "env_vars"):
        for key, value in (getattr(overrides, kind) or {}).items():
            yield from _each(f"overrides: {key}", value, _VALUE, "plain value")
